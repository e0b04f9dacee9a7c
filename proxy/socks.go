package proxy

import (
	"context"
	"net"
	"strings"

	"golang.org/x/net/proxy"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// SOCKS is a SOCKS5 proxy (RFC 1928), as `ssh -D` makes one.
type SOCKS struct {
	// Address is the proxy's host:port.
	Address string
	// User and Password are for it alone (RFC 1929). If User is empty, it asks
	// for none.
	User, Password string
}

// String is the proxy without its password.
func (s *SOCKS) String() string { return "socks5://" + s.Address }

// dial returns the very connection to the proxy, once that leads on to the
// address.
func (s *SOCKS) dial(ctx context.Context, dialer *net.Dialer, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if s.User != "" {
		auth = &proxy.Auth{User: s.User, Password: s.Password}
	}
	forward := &forward{Dialer: dialer}
	through, err := proxy.SOCKS5("tcp", s.Address, auth, forward)
	if err != nil {
		return nil, err
	}
	_, err = through.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	switch {
	case err == nil:
		return forward.conn, nil
	case forward.conn == nil || netconn.IsTimeout(err) || netconn.IsHangup(err):
		return nil, err
	default:
		return nil, &socksRefusal{err}
	}
}

// socksRefusal is the proxy's own no.
type socksRefusal struct{ error }

func (e *socksRefusal) Unwrap() error { return e.error }

// passes reports whether it is about the way to the server. The rest is about what
// the proxy wants to see before it goes that way.
func (e *socksRefusal) passes() bool {
	for _, reply := range []string{"general SOCKS server failure", "network unreachable", "host unreachable", "connection refused", "TTL expired"} {
		if strings.Contains(e.Error(), reply) {
			return true
		}
	}
	return false
}

// forward keeps the connection that it makes: the one that comes back from
// package proxy hides that it is TCP, with what we ask of that.
type forward struct {
	*net.Dialer
	conn net.Conn
}

func (f *forward) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := f.Dialer.DialContext(ctx, network, address)
	if err == nil {
		f.conn = conn
	}
	return conn, err
}
