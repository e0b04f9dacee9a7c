package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// The corpus in testdata has what real clients send, recorded, and inputs that fuzzing has
// found worth keeping.

func scripted(input []byte) (*netconn.Conn, *conntest.Script) {
	s := conntest.NewScript(input)
	return netconn.New(s), s
}

// fuzzProxy returns a started proxy without listeners.
func fuzzProxy(f *testing.F, change func(*Proxy)) *Proxy {
	p := &Proxy{Upstream: &upstream.Dialer{Endpoint: serverName + ":5432", TLS: &tls.Config{ServerName: serverName}}, Tokens: &tokens{}}
	if change != nil {
		change(p)
	}
	p.start()
	f.Cleanup(func() { stopNow(p) })
	return p
}

// FuzzReceiveStartup checks that each request for encryption gets an answer, and that no
// byte after the startup packet is read.
func FuzzReceiveStartup(f *testing.F) {
	for _, packets := range [][][]byte{
		{ordinaryStartup}, {sslRequest, ordinaryStartup}, {gssRequest, sslRequest, ordinaryStartup},
		{sslRequest, sslRequest}, {sslRequest, pgwire.Encode(cancelKey)}, {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
	} {
		f.Add(slices.Concat(packets...), false)
		f.Add(slices.Concat(packets...), true)
	}
	ca := newAuthority(f)
	withTLS, without := fuzzProxy(f, withClientTLS(f, ca)), fuzzProxy(f, nil)
	f.Fuzz(func(t *testing.T, input []byte, offered bool) {
		p := without
		if offered {
			p = withTLS
		}
		client, conn := scripted(input)
		s := &session{proxy: p, client: client}
		_, err := s.receiveStartup(p.ConnectTimeout, p.ClientTLS)
		answers := conn.Out.Bytes()
		if s.client.Encrypted() {
			t.Fatal("TLS without a handshake")
		}
		if err != nil {
			var failed *pgwire.Error
			if !errors.As(err, &failed) && !errors.Is(err, pgwire.ErrNoStartup) {
				t.Fatalf("unclear error %v", err)
			}
			return
		}
		if string(answers) != "N" && string(answers) != "NN" && len(answers) > 0 {
			t.Fatalf("answered %q", answers)
		}
		rest := input
		for range len(answers) + 1 {
			rest = rest[binary.BigEndian.Uint32(rest):]
		}
		if unread, _ := io.ReadAll(conn.In); !bytes.Equal(unread, rest) {
			t.Fatalf("%d bytes are left, want the %d after the packet", len(unread), len(rest))
		}
	})
}
