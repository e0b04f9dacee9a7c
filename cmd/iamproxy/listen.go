package main

import (
	"context"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/tls"
)

// unixPrefix begins a listen address that is a unix socket's. Behind it stands
// the directory, which is the "host" of libpq's clients, or the socket's path.
const unixPrefix = "unix:"

// socketName is the file that libpq looks for in the directory, with the port.
// https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-UNIX-SOCKET-DIRECTORIES
const socketName = ".s.PGSQL."

// listenAddresses gives each endpoint its address: the one it names, else the
// first one given, and for each further endpoint the port behind. A unix socket
// has a port too, in its name.
func listenAddresses(endpoints []endpoint, first string) error {
	next, err := parseListen(first)
	if err != nil {
		return err
	}
	taken := make(map[listenAddress]bool)
	for i := range endpoints {
		e := &endpoints[i]
		if e.listen != "" {
			if e.listening, err = parseListen(e.listen); err != nil {
				return err
			}
		} else {
			if next.port > 65535 {
				return usagef("--listen %s: no port is left for %s", first, e.host)
			}
			e.listening = next
			if next.port != 0 { // 0 is any free port
				next.port++
			}
		}
		if taken[e.listening] && e.listening.port != 0 {
			return usagef("listen address %s: it is that of two endpoints", e.listening)
		}
		taken[e.listening] = true
	}
	return nil
}

// listenAddress is where clients of one endpoint connect.
type listenAddress struct {
	host string // or the directory of a unix socket
	port uint64
	unix bool
}

func (a listenAddress) network() string {
	if a.unix {
		return "unix"
	}
	return "tcp"
}

// String is the address as net.Listen and net.Dial take it.
func (a listenAddress) String() string {
	port := strconv.FormatUint(a.port, 10)
	if a.unix {
		return filepath.Join(a.host, socketName+port)
	}
	return net.JoinHostPort(a.host, port)
}

// guarded is the error of an address that others than this host may reach, where
// nothing says who may: whoever connects gets the database without a password.
func (a listenAddress) guarded(allowFrom []netip.Prefix) error {
	if a.unix || a.host == "localhost" || len(allowFrom) > 0 {
		return nil
	}
	if ip := net.ParseIP(a.host); ip == nil || !ip.IsLoopback() {
		return usagef("listen address %s: not a loopback address; whoever can connect here needs no password, so use 127.0.0.1 or [::1], or say with --allow-from who may", a)
	}
	return nil
}

// parseListen reads HOST:PORT, unix:DIR and unix:DIR/.s.PGSQL.PORT.
func parseListen(text string) (listenAddress, error) {
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		return parseSocket(path)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return listenAddress{}, usagef("listen address %s: neither HOST:PORT nor unix:DIR", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return listenAddress{}, usagef("listen address %s: %q is no port", text, port)
	}
	if host != "" && host != "localhost" && net.ParseIP(host) == nil {
		return listenAddress{}, usagef("listen address %s: %q is neither localhost nor an address", text, host)
	}
	return listenAddress{host: host, port: number}, nil
}

func parseSocket(path string) (listenAddress, error) {
	dir, port := path, defaultPort
	if behind, ok := strings.CutPrefix(filepath.Base(path), socketName); ok {
		dir, port = filepath.Dir(path), behind
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case dir == "":
		return listenAddress{}, usagef("listen address %s%s: no directory in it", unixPrefix, path)
	case err != nil || number == 0:
		return listenAddress{}, usagef("listen address %s%s: %q is no port", unixPrefix, path, port)
	}
	address := listenAddress{host: filepath.Clean(dir), port: number, unix: true}
	n := len(address.String())
	switch {
	case strings.HasPrefix(address.String(), "@"): // Linux has sockets of such names that are no files
		return listenAddress{}, usagef("listen address %s%s: such a socket has no mode to keep others out; use the full path of a directory", unixPrefix, path)
	case n > maxSocketPath:
		return listenAddress{}, usagef("listen address %s%s: the socket's path has %d bytes, and %d is the most; use a shorter directory", unixPrefix, path, n, maxSocketPath)
	}
	return address, nil
}

// maxSocketPath is what sockaddr_un has room for on every system (104 bytes on
// the BSDs and macOS), but for the NUL.
const maxSocketPath = 103

// listener is where clients connect.
type listener struct {
	net.Listener
	passed bool // to this process, and others may have it, too
}

// listeners are all that a process has.
type listeners struct {
	endpoints []listener   // in their order
	admin     net.Listener // nil if there is none
}

func (l listeners) close() {
	for _, listener := range l.endpoints {
		listener.Close()
	}
	if l.admin != nil {
		l.admin.Close()
	}
}

// listen opens all listeners or none. Those that were passed to the process are open
// already.
func (c *runCommand) listen(ctx context.Context, s settings, log *zap.Logger) (all listeners, err error) {
	sockets, err := receiveSockets()
	if err != nil {
		return all, err
	}
	defer func() {
		if err != nil {
			sockets.close()
			all.close()
		}
	}()
	for _, e := range s.endpoints {
		one := listener{Listener: sockets.take(e.listening.network(), e.listening.String())}
		if one.passed = one.Listener != nil; !one.passed {
			if one.Listener, err = listenAt(ctx, e.listening, s.socketMode); err != nil {
				return all, fmt.Errorf("cannot listen on %s for %s: %w%s", e.listening, e.host, err, elsewhere(err))
			}
		}
		all.endpoints = append(all.endpoints, one)
		// What "localhost" is, a file says that anybody may have edited.
		if !isLoopback(one.Addr()) && s.allowFrom == nil {
			return all, usagef("listen address %s: it is %s, not a loopback address", e.listening, one.Addr())
		}
	}
	if all.admin, err = c.listenAdmin(ctx, sockets, log); err != nil {
		return all, err
	}
	return all, sockets.unclaimed()
}

// elsewhere is what to do about a port that is taken.
func elsewhere(err error) string {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ""
	}
	return "; another PostgreSQL or iamproxy has it: --listen 127.0.0.1:6432"
}

// isLoopback is about addresses that only this host reaches.
func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func listenAt(ctx context.Context, address listenAddress, socketMode os.FileMode) (net.Listener, error) {
	if address.unix {
		return listenUnix(ctx, address.String(), socketMode)
	}
	var config net.ListenConfig
	if ip := net.ParseIP(address.host); address.host == "localhost" || ip != nil && ip.IsLoopback() {
		// No keep-alives: on loopback nobody vanishes, and they are four system calls
		// for each client.
		config.KeepAlive = -1
	}
	return config.Listen(ctx, address.network(), address.String())
}

// parseSocketMode reads an octal mode of 9 bits, with which at least the owner may
// connect.
func parseSocketMode(text string) (os.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 9)
	switch {
	case err != nil:
		return 0, usagef("--socket-mode %s: not an octal mode such as 0660", text)
	case mode&0o600 != 0o600:
		return 0, usagef("--socket-mode %s: the owner has to be able to read and write, as with 0600", text)
	}
	return os.FileMode(mode), nil
}

// clientTLS reads --listen-tls. It is nil for off.
func clientTLS(text string, endpoints []endpoint, log *zap.Logger) (*cryptotls.Config, error) {
	switch cert, key, isPair := strings.Cut(text, ","); {
	case text == "off":
		return nil, nil
	case text == "self-signed":
		names := []string{"localhost", "127.0.0.1", "::1"}
		if host, err := os.Hostname(); err == nil {
			names = append(names, host)
		}
		for _, e := range endpoints {
			if !e.listening.unix && e.listening.host != "" {
				names = append(names, e.listening.host)
			}
		}
		certificate, err := tls.SelfSigned(names...)
		if err != nil {
			return nil, fmt.Errorf("--listen-tls: %w", err)
		}
		return tls.Downstream(func() *cryptotls.Certificate { return certificate }), nil
	case isPair && cert != "" && key != "":
		files := &tls.Files{Cert: strings.TrimSpace(cert), Key: strings.TrimSpace(key), Log: log}
		if err := files.Load(); err != nil {
			return nil, usagef("--listen-tls: %w", err)
		}
		return tls.Downstream(files.Current), nil
	default:
		return nil, usagef("--listen-tls %s: neither off, self-signed, nor two files as CERT.pem,KEY.pem", text)
	}
}
