package upstream

import (
	"context"
	"errors"
	"net"
	"strings"

	"golang.org/x/net/proxy"

	"github.com/iamproxy/iamproxy/internal/winsock"
	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// SOCKS5 is a SOCKS5 proxy (RFC 1928), such as `ssh -D` starts.
type SOCKS5 struct {
	// Address is the proxy's host:port.
	Address string
	// User and Password authenticate to the proxy (RFC 1929). If User is empty, the proxy
	// must not require it.
	User, Password string
}

// String returns the proxy's URL without the password.
func (s *SOCKS5) String() string { return "socks5://" + s.Address }

// dial returns the connection to the proxy once the proxy has connected to the address.
func (s *SOCKS5) dial(ctx context.Context, dialer *net.Dialer, address string) (net.Conn, error) {
	var auth *proxy.Auth
	if s.User != "" {
		auth = &proxy.Auth{User: s.User, Password: s.Password}
	}
	capture := &connCapture{Dialer: dialer}
	socks, err := proxy.SOCKS5("tcp", s.Address, auth, capture)
	if err != nil {
		return nil, err
	}
	_, err = socks.(proxy.ContextDialer).DialContext(ctx, "tcp", address)
	err = winsock.POSIX(err)
	switch {
	case err == nil:
		return capture.conn, nil
	case capture.conn == nil || netconn.IsTimeout(err) || netconn.IsHangup(err):
		return nil, err
	default:
		return nil, newSOCKSError(err)
	}
}

// socksError is an error reply of the proxy.
type socksError struct{ reply string }

// newSOCKSError returns the reply in an error of package proxy.
func newSOCKSError(err error) *socksError {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return &socksError{strings.TrimPrefix(err.Error(), "unknown error ")}
}

func (e *socksError) Error() string { return e.reply }

// isTransient reports whether the reply is about the way to the server. Other replies are
// about the proxy's user and rules. Package proxy of golang.org/x/net has no codes, so the
// reply's text decides (Reply.String in its internal/socks/socks.go).
func (e *socksError) isTransient() bool {
	for _, reply := range []string{"general SOCKS server failure", "network unreachable", "host unreachable", "connection refused", "TTL expired"} {
		if strings.Contains(e.reply, reply) {
			return true
		}
	}
	return false
}

// connCapture keeps the connection that it dials. The one that package proxy returns hides
// the *net.TCPConn.
type connCapture struct {
	*net.Dialer
	conn net.Conn
}

func (c *connCapture) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Dialer.DialContext(ctx, network, address)
	if err == nil {
		c.conn = conn
	}
	return conn, err
}
