package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/coreos/go-systemd/v22/activation"
)

// passedSockets are the listening sockets that systemd, or whoever speaks its
// protocol, has passed to this process. Other processes may have the same.
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
type passedSockets struct{ listeners []net.Listener }

// receiveSockets takes what was passed.
func receiveSockets() (*passedSockets, error) {
	var passed passedSockets
	for _, file := range activation.Files(true) {
		err := listens(file)
		var listener net.Listener
		if err == nil {
			listener, err = net.FileListener(file) // of a copy
		}
		file.Close()
		if err != nil {
			passed.close()
			return nil, usagef("the socket %s that was passed (LISTEN_FDS) cannot be listened at: %w", file.Name(), err)
		}
		passed.listeners = append(passed.listeners, listener)
	}
	return &passed, nil
}

// take returns the socket that is bound to an address, or nil.
func (s *passedSockets) take(network, address string) net.Listener {
	for i, listener := range s.listeners {
		if listener != nil && isBoundTo(listener.Addr(), network, address) {
			s.listeners[i] = nil
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
	if host == "localhost" {
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

// unclaimed is the error of a socket that belongs to no flag: somebody has meant
// something by it.
func (s *passedSockets) unclaimed() error {
	for _, listener := range s.listeners {
		if listener != nil {
			return usagef("the socket %s that was passed (LISTEN_FDS) is where neither --listen, listen= nor --admin says", listener.Addr())
		}
	}
	return nil
}

// close is for those that nobody has taken.
func (s *passedSockets) close() {
	for _, listener := range s.listeners {
		if listener != nil {
			listener.Close()
		}
	}
}
