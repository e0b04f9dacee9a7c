package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// Each parser of what comes from the network has a target here. The corpus in
// testdata has what real clients and servers send, recorded, and what fuzzing has
// found worth keeping. `make fuzz` runs them all.

// script is a connection whose other side has said all that it will say.
type script struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// scripted is a Conn of such a connection.
func scripted(said []byte) (*netconn.Conn, *script) {
	s := &script{in: bytes.NewReader(said)}
	return netconn.New(s), s
}

// fuzzProxy is one that serves nobody.
func fuzzProxy(f *testing.F, change func(*Proxy)) *Proxy {
	p := &Proxy{Endpoint: serverName + ":5432", TLS: &tls.Config{ServerName: serverName}, Tokens: &tokens{}}
	if change != nil {
		change(p)
	}
	p.start()
	f.Cleanup(func() { stopNow(p) })
	return p
}

// FuzzOpening: whatever a client begins with, it gets an answer for each request
// for encryption, and nothing that stands behind its packet is taken.
func FuzzOpening(f *testing.F) {
	for _, packets := range [][][]byte{
		{ordinaryStartup}, {sslRequest, ordinaryStartup}, {gssRequest, sslRequest, ordinaryStartup},
		{sslRequest, sslRequest}, {sslRequest, pgwire.Encode(cancelKey)}, {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
	} {
		f.Add(slices.Concat(packets...), false)
		f.Add(slices.Concat(packets...), true)
	}
	ca := newAuthority(f)
	withTLS, without := fuzzProxy(f, withClientTLS(f, ca)), fuzzProxy(f, nil)
	f.Fuzz(func(t *testing.T, said []byte, offered bool) {
		p := without
		if offered {
			p = withTLS
		}
		client, conn := scripted(said)
		s := &session{proxy: p, client: client}
		_, err := s.receiveStartup(p.connectTimeout(), p.clientTLS)
		answers := conn.out.Bytes()
		if s.client.Encrypted() {
			t.Fatal("a handshake with nobody")
		}
		if err != nil {
			var failed *pgwire.Error
			if !errors.As(err, &failed) && !errors.Is(err, pgwire.ErrNoStartup) && !errors.Is(err, errNoTLS) {
				t.Fatalf("unclear error %v", err)
			}
			return
		}
		if string(answers) != "N" && string(answers) != "NN" && len(answers) > 0 {
			t.Fatalf("answered %q", answers)
		}
		behind := said
		for range len(answers) + 1 {
			behind = behind[binary.BigEndian.Uint32(behind):]
		}
		if rest, _ := io.ReadAll(conn.in); !bytes.Equal(rest, behind) {
			t.Fatalf("%d bytes are left, want the %d that stand behind the packet", len(rest), len(behind))
		}
	})
}

// FuzzServerLogin: whatever a server says during a login, it gets the token only
// where it asks for a password in clear text, once, and the client gets all but
// that, in order and to the byte, up to the first ReadyForQuery.
func FuzzServerLogin(f *testing.F) {
	ask := pgwire.Encode(&pgproto3.AuthenticationCleartextPassword{})
	f.Add(slices.Concat(ask, pgwire.Encode(okay), pgwire.Encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), pgwire.Encode(key), pgwire.Encode(ready), []byte("behind")))
	f.Add(slices.Concat([]byte("v\x00\x00\x00\x0f\x00\x03\x00\x02\x00\x00\x00\x01x\x00\x00"), ask, pgwire.Encode(okay), pgwire.Encode(ready)))
	f.Add(slices.Concat(ask, ask))
	f.Add(slices.Concat(ask, pgwire.Encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})))
	f.Add(pgwire.Encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}))
	f.Add(pgwire.Encode(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}}))
	p := fuzzProxy(f, nil)
	wish := pgwire.StartupMessage{Version: 3 << 16, Parameters: []pgwire.Parameter{{Name: "user", Value: "alice"}}}
	f.Fuzz(func(t *testing.T, said []byte) {
		client, heard := scripted(nil)
		conn, server := scripted(said)
		s := &session{proxy: p, client: client, user: "alice"}
		defer s.forget()
		err := s.enter(&upstream{Conn: conn}, wish, "the token")
		if err == nil {
			err = s.handOver(&upstream{Conn: conn})
		}

		passwords := bytes.Count(server.out.Bytes(), pgwire.Encode(&pgproto3.PasswordMessage{Password: "the token"}))
		if want := server.out.Len() - len(wish.Encode()); passwords > 1 || passwords*len("p....the token.") != want {
			t.Fatalf("the server got %q", server.out.Bytes())
		}
		want, asked := relayed(said, err == nil)
		if passwords == 1 && !asked {
			t.Fatal("the server got a token that it had not asked for")
		}
		if !bytes.HasPrefix(want, heard.out.Bytes()) || err == nil && heard.out.Len() != len(want) {
			t.Fatalf("the client got %q of %q, and %v", heard.out.Bytes(), want, err)
		}
		if err != nil && s.proxy.failure(err) == nil {
			t.Fatal("nothing to say to the client")
		}
	})
}

// FuzzTarget: whatever a server says when it is asked whether it takes writes,
// only one that does is handed over, and the client gets nothing of the question.
func FuzzTarget(f *testing.F) {
	reports := func(standby, readOnly string) []byte {
		return slices.Concat(pgwire.Encode(&pgproto3.ParameterStatus{Name: inHotStandby, Value: standby}), pgwire.Encode(&pgproto3.ParameterStatus{Name: readOnlyDefault, Value: readOnly}))
	}
	says := func(value string) []byte {
		return slices.Concat(pgwire.Encode(&pgproto3.RowDescription{}), pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{[]byte(value)}}), pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}), pgwire.Encode(ready))
	}
	f.Add(slices.Concat(reports("off", "off"), pgwire.Encode(ready)))
	f.Add(slices.Concat(reports("on", "off"), pgwire.Encode(ready)))
	f.Add(slices.Concat(reports("off", "on"), pgwire.Encode(ready), says("f")))
	f.Add(slices.Concat(pgwire.Encode(ready), says("t")))
	f.Add(slices.Concat(pgwire.Encode(ready), pgwire.Encode(&pgproto3.NoticeResponse{Message: "n"}), says("f")))
	f.Add(slices.Concat(pgwire.Encode(ready), pgwire.Encode(&pgproto3.ErrorResponse{Code: "57014"}), pgwire.Encode(ready)))
	p := fuzzProxy(f, func(p *Proxy) { p.Writer = true })
	wish := pgwire.StartupMessage{Version: 3 << 16, Parameters: []pgwire.Parameter{{Name: "user", Value: "alice"}}}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn, server := scripted(slices.Concat(pgwire.Encode(okay), said))
		s := &session{proxy: p, user: "alice"}
		err := s.enter(&upstream{Conn: conn}, wish, "the token")
		asked := bytes.Contains(server.out.Bytes(), []byte("pg_is_in_recovery"))
		switch {
		case err != nil:
			return
		case s.reported[inHotStandby] == "on":
			t.Fatal("a standby is handed over")
		case !asked && (s.reported[inHotStandby] != "off" || s.reported[readOnlyDefault] != "off"):
			t.Fatalf("handed over with %v reported", s.reported)
		}
		if want := withoutAnswer(slices.Concat(pgwire.Encode(okay), said), asked); !bytes.Equal(s.held, want) {
			t.Fatalf("the client gets %q, want %q", s.held, want)
		}
	})
}

// withoutAnswer is what a client is to get of what a server says: all until it is
// ready, and if it was asked something then, of that only what is not an answer.
func withoutAnswer(said []byte, asked bool) []byte {
	r := bytes.NewReader(said)
	var before, ready []byte
	for {
		m, err := pgwire.ReadMessage(r)
		switch {
		case err != nil, m.Type() == pgwire.ReadyForQuery && (!asked || ready != nil):
			if ready == nil {
				ready = m
			}
			return append(before, ready...)
		case m.Type() == pgwire.ReadyForQuery:
			ready = m
		case ready == nil || m.Type() == pgwire.ParameterStatus || m.Type() == pgwire.NoticeResponse:
			before = append(before, m...)
		}
	}
}

// relayed is what a client is to get of what a server says, if the login succeeds
// or if that is not known, and whether the server asks for a token.
func relayed(said []byte, succeeds bool) (relayed []byte, asked bool) {
	r := bytes.NewReader(said)
	for authenticated := false; ; {
		m, err := pgwire.ReadMessage(r)
		if err != nil {
			return relayed, asked
		}
		is := func(method uint32) bool {
			return !authenticated && m.Type() == pgwire.Authentication && len(m.Body()) >= 4 && binary.BigEndian.Uint32(m.Body()) == method
		}
		if is(pgproto3.AuthTypeCleartextPassword) {
			asked = true
		} else {
			relayed = append(relayed, m...)
		}
		if m.Type() == pgwire.ReadyForQuery && authenticated && succeeds {
			return relayed, asked
		}
		authenticated = authenticated || is(pgproto3.AuthTypeOk)
	}
}

// FuzzTLSAnswer: a server is taken to offer TLS only if the first thing that it
// says is that; what stands behind is left for the handshake.
func FuzzTLSAnswer(f *testing.F) {
	for _, said := range []string{"S", "N", "E\x00\x00\x00\x05\x00", "SR\x00\x00\x00\x08\x00\x00\x00\x03", "HTTP/1.1 400 Bad Request", ""} {
		f.Add([]byte(said))
	}
	p := fuzzProxy(f, nil)
	f.Fuzz(func(t *testing.T, said []byte) {
		_, server := scripted(said)
		err := p.requestTLS(t.Context(), server)
		if offered := len(said) > 0 && said[0] == 'S'; offered != (err == nil) {
			t.Fatalf("%q: %v", said, err)
		}
		if !bytes.Equal(server.out.Bytes(), sslRequest) || len(said) > 0 && server.in.Len() != len(said)-1 {
			t.Fatalf("asked %q, %d bytes of %d are left", server.out.Bytes(), server.in.Len(), len(said))
		}
	})
}
