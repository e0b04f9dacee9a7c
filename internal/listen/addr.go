// Package listen opens the sockets on which clients connect: TCP ports, unix sockets, and
// sockets passed by systemd.
package listen

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// unixPrefix begins the address of a unix socket. After it comes the directory, which libpq's
// clients give as the host, or the path of the socket.
const unixPrefix = "unix:"

// socketName is the name of the socket file in the directory, without the port.
// https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-UNIX-SOCKET-DIRECTORIES
const socketName = ".s.PGSQL."

// defaultPort is the port of an address without one. For a unix socket that is a directory.
const defaultPort = "5432"

// localhost is the host that has two addresses, as in PostgreSQL's listen_addresses.
const localhost = "localhost"

// maxSocketPath is the maximum length of a socket's path on all systems: that of sun_path on
// the BSDs and macOS, without the NUL.
const maxSocketPath = 103

// Addr is an address on which clients connect: a TCP port or a unix socket.
type Addr struct {
	Host string // or the directory of a unix socket
	Port uint64 // of a unix socket, too: it is part of the name
	Unix bool
}

// ParseAddr parses HOST:PORT, HOST, PORT, unix:DIR and unix:DIR/.s.PGSQL.PORT. The port alone is
// that of localhost.
func ParseAddr(text string) (Addr, error) {
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		return parseSocket(path)
	}
	host, port, err := net.SplitHostPort(complete(text))
	if err != nil && strings.Count(text, ":") > 1 && !strings.ContainsAny(text, "[]") {
		return Addr{}, fmt.Errorf("listen address %s: an IPv6 address needs brackets, as in [::1]:5432", text)
	}
	if err != nil {
		return Addr{}, fmt.Errorf("listen address %s: neither HOST:PORT nor unix:DIR", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Addr{}, fmt.Errorf("listen address %s: %q is not a port", text, port)
	}
	if host != "" && host != localhost && net.ParseIP(host) == nil {
		return Addr{}, fmt.Errorf("listen address %s: %q is neither localhost nor an address", text, host)
	}
	return Addr{Host: host, Port: number}, nil
}

// complete adds the default port to a host, and localhost to a port.
func complete(text string) string {
	address := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	ip, err := netip.ParseAddr(address)
	_, notPort := strconv.ParseUint(text, 10, 64)
	switch {
	case notPort == nil:
		return net.JoinHostPort(localhost, text)
	case text == localhost, err == nil && (ip.Is4() || address != text): // an IPv6 address has brackets
		return net.JoinHostPort(address, defaultPort)
	}
	return text
}

func parseSocket(path string) (Addr, error) {
	dir, port := path, defaultPort
	if suffix, ok := strings.CutPrefix(filepath.Base(path), socketName); ok {
		dir, port = filepath.Dir(path), suffix
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case dir == "":
		return Addr{}, fmt.Errorf("listen address %s%s: no directory in it", unixPrefix, path)
	case err != nil || number == 0:
		return Addr{}, fmt.Errorf("listen address %s%s: %q is not a port", unixPrefix, path, port)
	}
	address := Addr{Host: filepath.Clean(dir), Port: number, Unix: true}
	n := len(address.String())
	switch {
	case strings.HasPrefix(address.String(), "@"): // the abstract namespace of Linux
		return Addr{}, fmt.Errorf("listen address %s%s: an abstract socket has no file mode that restricts clients; use the full path of a directory", unixPrefix, path)
	case n > maxSocketPath:
		return Addr{}, fmt.Errorf("listen address %s%s: the path of the socket has %d bytes (maximum %d); use a shorter directory", unixPrefix, path, n, maxSocketPath)
	}
	return address, nil
}

// Network returns the network of the address for net.Listen and net.Dial.
func (a Addr) Network() string {
	if a.Unix {
		return "unix"
	}
	return "tcp"
}

// String returns the address for net.Listen and net.Dial.
func (a Addr) String() string {
	port := strconv.FormatUint(a.Port, 10)
	if a.Unix {
		return filepath.Join(a.Host, socketName+port)
	}
	return net.JoinHostPort(a.Host, port)
}

// Addresses returns the addresses of the listeners: two of localhost, IPv4 first, and else one.
func (a Addr) Addresses() []string {
	if a.Unix || a.Host != localhost {
		return []string{a.String()}
	}
	port := strconv.FormatUint(a.Port, 10)
	return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
}

// Name returns where clients connect to the listeners of the address, with the port that the
// system has chosen for 0.
func (a Addr) Name(listeners []net.Listener) string {
	address := listeners[0].Addr()
	if tcp, ok := address.(*net.TCPAddr); ok && a.Host == localhost {
		return net.JoinHostPort(localhost, strconv.Itoa(tcp.Port))
	}
	return address.String()
}

// Validate returns an error if other hosts can reach the address and allowFrom does not
// restrict them: a client needs no password to connect.
func (a Addr) Validate(allowFrom []netip.Prefix) error {
	if a.Unix || a.isLoopback() || len(allowFrom) > 0 {
		return nil
	}
	return fmt.Errorf("listen address %s: not a loopback address; clients need no password, so restrict them with --allow-from, or listen on 127.0.0.1 or [::1]", a)
}

func (a Addr) isUnspecified() bool {
	ip := net.ParseIP(a.Host)
	return a.Host == "" || ip != nil && ip.IsUnspecified()
}

func (a Addr) isLoopback() bool {
	ip := net.ParseIP(a.Host)
	return a.Host == localhost || ip != nil && ip.IsLoopback()
}

// ParseAllowFrom parses networks in CIDR notation and single addresses.
func ParseAllowFrom(texts []string) (prefixes []netip.Prefix, err error) {
	for _, text := range texts {
		text = strings.TrimSpace(text)
		prefix, err := netip.ParsePrefix(text)
		if address, addrErr := netip.ParseAddr(text); addrErr == nil && address.Zone() == "" {
			prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("--allow-from %q: neither an address nor a network such as 10.0.0.0/16", text)
		case prefix != prefix.Masked():
			return nil, fmt.Errorf("--allow-from %s: bits are set after the first %d; the network is %s", text, prefix.Bits(), prefix.Masked())
		case prefix.Addr().Is4In6():
			return nil, fmt.Errorf("--allow-from %s: write it as an IPv4 network", text)
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// IsLoopback reports whether only this host can connect to the address of a listener.
func IsLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
