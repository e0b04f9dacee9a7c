//go:build unix

package aurora

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"go.uber.org/goleak"
)

// encodeBind encodes a bind as libldap does; method 0 is simple, 3 is SASL.
func encodeBind(id, version int64, password string, method ber.Tag) []byte {
	bind := ber.Encode(ber.ClassApplication, ber.TypeConstructed, opBindRequest, nil, "")
	bind.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, version, ""))
	bind.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "cn=x", ""))
	bind.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, method, password, ""))
	message := ber.NewSequence("")
	message.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	message.AppendChild(bind)
	return message.Bytes()
}

// passwordIs accepts all users with this password.
func passwordIs(want string) func(context.Context, string, string) bool {
	return func(_ context.Context, _, password string) bool { return password == want }
}

func dialLDAP(t *testing.T, s *ldapServer) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testLimit)) // fails if closed, as does what follows
	return conn
}

func TestLDAPBind(t *testing.T) {
	t.Parallel()
	s, err := startLDAP(passwordIs("good"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	conn := dialLDAP(t, s)
	for _, test := range []struct {
		name     string
		id       int64
		version  int64
		password string
		method   ber.Tag
		want     int64
	}{
		{"good", 1, 3, "good", 0, resultSuccess},
		{"bad", 2, 3, "bad", 0, resultInvalidCredentials},
		{"empty", 1<<31 - 1, 3, "", 0, resultUnwillingToPerform},
		{"LDAPv2", 0, 2, "good", 0, resultProtocolError},
		{"SASL", 5, 3, "good", 3, resultAuthMethodNotSupported},
	} {
		if _, err := conn.Write(encodeBind(test.id, test.version, test.password, test.method)); err != nil {
			t.Fatal(err)
		}
		response, err := ber.ReadPacket(conn)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		id, operation, ok := openMessage(response)
		if !ok || id != test.id || operation.Tag != opBindResponse || operation.Children[0].Value != test.want {
			t.Errorf("%s: message %d, %v, want code %d", test.name, id, operation.Children[0].Value, test.want)
		}
	}
	// An unbind closes the connection without an answer.
	if _, err := conn.Write([]byte{0x30, 5, 2, 1, 9, 0x42, 0}); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("after unbind: %x, %v", rest, err)
	}
}

func TestLDAPGarbage(t *testing.T) {
	t.Parallel()
	s, err := startLDAP(passwordIs("good"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	noise := make([]byte, 4096)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	good := encodeBind(1, 3, "good", 0)
	for name, garbage := range map[string][]byte{
		"nothing":          {},
		"text":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"noise":            noise,
		"half a request":   good[:len(good)/2],
		"2 GiB announced":  {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1},
		"16 EiB announced": {0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"deep nesting":     bytes.Repeat([]byte{0x30, 0x80}, 5000),
		"more than 1 MiB":  append([]byte{0x04, 0x83, 0x20, 0, 0}, make([]byte, 2<<20)...),
		"search request":   {0x30, 5, 2, 1, 1, 0x63, 0},
		"empty sequence":   {0x30, 0},
		"id is a string":   {0x30, 5, 4, 1, 1, 0x42, 0},
		"empty bind":       {0x30, 5, 2, 1, 1, 0x60, 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialLDAP(t, s)
			var writing sync.WaitGroup
			defer writing.Wait()
			writing.Go(func() {
				_, _ = conn.Write(garbage) // the server may not read it all
				_ = conn.(*net.TCPConn).CloseWrite()
			})
			// The server must end the connection, perhaps with a reset.
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
		})
	}
	// It still serves others.
	conn := dialLDAP(t, s)
	if _, err := conn.Write(good); err != nil {
		t.Fatal(err)
	}
	if response, err := ber.ReadPacket(conn); err != nil || response.Children[1].Children[0].Value != resultSuccess {
		t.Errorf("%v, %v", response, err)
	}
}

// TestLDAPClose is not parallel: it counts all goroutines.
func TestLDAPClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	asked := make(chan struct{})
	s, err := startLDAP(func(ctx context.Context, _, _ string) bool {
		close(asked)
		<-ctx.Done()
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	dialLDAP(t, s) // sends nothing
	conn := dialLDAP(t, s)
	if _, err := conn.Write(encodeBind(1, 3, "good", 0)); err != nil {
		t.Fatal(err)
	}
	<-asked
	s.close()
	goleak.VerifyNone(t, before)
}

func FuzzLDAPMessage(f *testing.F) {
	f.Add(encodeBind(1, 3, "password", 0))
	f.Add([]byte{0x30, 5, 2, 1, 9, 0x42, 0})
	f.Add(disconnection())
	f.Fuzz(func(t *testing.T, data []byte) {
		message, err := ber.ReadPacket(io.LimitReader(bytes.NewReader(data), maxMessage))
		if err != nil {
			return
		}
		if _, operation, ok := openMessage(message); ok {
			readBind(operation)
		}
	})
}
