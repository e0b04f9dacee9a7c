package listen

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/coreos/go-systemd/v22/activation"
)

// Activated holds the listening sockets that systemd, or another program with its protocol,
// has passed to this process. Other processes may share them.
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
type Activated struct{ listeners []net.Listener }

// ReceiveActivated takes over the sockets passed to this process. It must be called once.
func ReceiveActivated() (*Activated, error) {
	var a Activated
	for _, file := range activation.Files(true) {
		err := checkListening(file)
		var listener net.Listener
		if err == nil {
			listener, err = net.FileListener(file) // duplicates the descriptor
		}
		file.Close()
		if err != nil {
			a.Close()
			return nil, fmt.Errorf("could not use the inherited socket %s (LISTEN_FDS): %w", file.Name(), err)
		}
		a.listeners = append(a.listeners, listener)
	}
	return &a, nil
}

// TakeAll returns the sockets bound to the addresses of addr. The caller closes them. It returns
// an error if there is none, but a socket with the same port: ListenStream=5432 of systemd is
// [::]:5432.
func (a *Activated) TakeAll(addr Addr) (listeners []net.Listener, err error) {
	for _, address := range addr.Addresses() {
		if listener := a.Take(addr.Network(), address); listener != nil {
			listeners = append(listeners, listener)
		}
	}
	for _, other := range a.listeners {
		if other == nil || addr.Unix || len(listeners) > 0 {
			continue
		}
		if tcp, ok := other.Addr().(*net.TCPAddr); ok && uint64(tcp.Port) == addr.Port && (tcp.IP.IsUnspecified() || addr.isUnspecified()) {
			return nil, fmt.Errorf("the inherited socket %s (LISTEN_FDS) is not at %s; change --listen, listen= or the socket's address", tcp, addr)
		}
	}
	return listeners, nil
}

// Take returns the socket bound to an address, or nil. The caller closes it.
func (a *Activated) Take(network, address string) net.Listener {
	for i, listener := range a.listeners {
		if listener != nil && isBoundTo(listener.Addr(), network, address) {
			a.listeners[i] = nil
			return listener
		}
	}
	return nil
}

func isBoundTo(bound net.Addr, network, address string) bool {
	tcp, ok := bound.(*net.TCPAddr)
	if !ok || network != "tcp" {
		return bound.Network() == network && bound.String() == address
	}
	host, port, _ := net.SplitHostPort(address)
	if host == localhost {
		host = "127.0.0.1"
	}
	wanted, err := netip.ParseAddr(host)
	if fmt.Sprint(tcp.Port) != port {
		return false
	}
	if host == "" || err == nil && wanted.IsUnspecified() {
		return tcp.IP.IsUnspecified()
	}
	return err == nil && wanted == tcp.AddrPort().Addr().Unmap()
}

// Unclaimed returns an error if a socket was not taken: its address matches no flag.
func (a *Activated) Unclaimed() error {
	for _, listener := range a.listeners {
		if listener != nil {
			return fmt.Errorf("the inherited socket %s (LISTEN_FDS) matches no --listen, listen=, --admin or --status", listener.Addr())
		}
	}
	return nil
}

// Close closes the sockets that were not taken.
func (a *Activated) Close() {
	for _, listener := range a.listeners {
		if listener != nil {
			listener.Close()
		}
	}
}
