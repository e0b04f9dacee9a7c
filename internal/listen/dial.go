package listen

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"

	"github.com/iamproxy/iamproxy/internal/winsock"
)

// The errors of Dial, besides fs.ErrPermission.
var (
	ErrNoListener = errors.New("nothing is listening there")
	ErrNoAnswer   = errors.New("no answer in time")
)

// Dial connects to a listener of this host. A TCP listener without a certain host has two
// loopback addresses, and the host may lack one of them.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	addresses := []string{address}
	if host, port, err := net.SplitHostPort(address); network == "tcp" && err == nil {
		v4, v6 := net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)
		switch ip, _ := netip.ParseAddr(host); {
		case host == "", host == localhost, ip == netip.IPv4Unspecified():
			addresses = []string{v4, v6}
		case ip == netip.IPv6Unspecified():
			addresses = []string{v6, v4}
		}
	}
	var failed error
	for _, address := range addresses {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		failed = dialError(err)
	}
	return nil, failed
}

// dialError returns the error for err of a dial to this host.
func dialError(err error) error {
	var failed net.Error
	switch err = winsock.POSIX(err); {
	case errors.As(err, &failed) && failed.Timeout():
		return ErrNoAnswer
	case errors.Is(err, fs.ErrPermission):
		return fs.ErrPermission
	default:
		return ErrNoListener
	}
}

// LocalAddr returns the address at which this host reaches a TCP listener.
func LocalAddr(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	_, port, _ := net.SplitHostPort(address.String())
	return net.JoinHostPort(localhost, port)
}
