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

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
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
	p := &Proxy{Upstream: &upstream.Dialer{Endpoint: serverName + ":5432", TLS: &tls.Config{ServerName: serverName}}, Tokens: &tokens{}}
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
		_, err := s.receiveStartup(p.ConnectTimeout, p.ClientTLS)
		answers := conn.out.Bytes()
		if s.client.Encrypted() {
			t.Fatal("a handshake with nobody")
		}
		if err != nil {
			var failed *pgwire.Error
			if !errors.As(err, &failed) && !errors.Is(err, pgwire.ErrNoStartup) && !errors.Is(err, errClientTLS) {
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
