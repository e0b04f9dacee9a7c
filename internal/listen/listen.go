package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/iamproxy/iamproxy/internal/winsock"
)

// Listen opens the listeners of an address: two for localhost, on the same port, and else one. A
// unix socket gets the given mode.
//
// A host may lack one of the two addresses of localhost. If another program has the port at one of
// them, Listen fails: clients of localhost would reach the other program.
func Listen(ctx context.Context, address Addr, socketMode os.FileMode) ([]net.Listener, error) {
	for attempt := 1; ; attempt++ {
		listeners, err := open(ctx, address, socketMode)
		switch {
		case err == nil:
			return listeners, nil
		case !IsInUse(err):
			return nil, err
		case address.Port != 0 || attempt == maxAttempts:
			return nil, fmt.Errorf("%w; %s", err, portInUseHint(address.Port))
		}
	}
}

// maxAttempts is the maximum number of ports that are tried if any free port will do: one that is
// free at the first address may be in use at the second.
const maxAttempts = 20

// portInUseHint returns advice for a port that is in use: another one.
func portInUseHint(port uint64) string {
	other := 6432
	if port == 6432 {
		other = 7432
	}
	return fmt.Sprintf("another PostgreSQL or iamproxy uses this port; choose another one, such as --listen localhost:%d, or listen=%[1]d in ENDPOINT", other)
}

func open(ctx context.Context, address Addr, socketMode os.FileMode) (listeners []net.Listener, err error) {
	if address.Unix {
		listener, err := listenUnix(ctx, address.String(), socketMode)
		if err != nil {
			return nil, err
		}
		return []net.Listener{listener}, nil
	}
	var config net.ListenConfig
	if address.isLoopback() {
		// Clients on loopback cannot vanish, and keep-alives cost four system calls for each.
		config.KeepAlive = -1
	}
	var missing error // the last address that the host lacks
	for i := range address.Addresses() {
		listener, err := config.Listen(ctx, TCPNetwork(address.Host), address.Addresses()[i]) // with the port of the first
		switch {
		case err == nil:
			listeners = append(listeners, listener)
			address.Port = uint64(listener.Addr().(*net.TCPAddr).Port)
		case IsInUse(err):
			for _, listener := range listeners {
				listener.Close()
			}
			if err = BindError(err); len(address.Addresses()) > 1 {
				err = fmt.Errorf("%s: %w", address.Addresses()[i], err)
			}
			return nil, err
		default:
			missing = err
		}
	}
	if len(listeners) == 0 {
		return nil, BindError(missing)
	}
	return listeners, nil
}

// TCPNetwork returns the network of net.Listen for a host. At an IPv4 address, also at 0.0.0.0,
// there are no clients with IPv6, as in PostgreSQL: net.Listen would accept them at 0.0.0.0.
func TCPNetwork(host string) string {
	if address, err := netip.ParseAddr(host); err == nil && address.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// BindError returns the cause of err of a TCP listener, without the address, which callers add.
func BindError(err error) error {
	if failed := (*os.SyscallError)(nil); errors.As(winsock.POSIX(err), &failed) {
		err = failed.Err
	}
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; it is not an address of this host", err)
	case errors.Is(err, fs.ErrPermission) && runtime.GOOS == "windows":
		return fmt.Errorf("%w; another program uses the port, or Windows has reserved it: see `netsh interface ipv4 show excludedportrange protocol=tcp`", err)
	}
	return err
}

// IsInUse reports whether another socket has the address.
func IsInUse(err error) bool { return errors.Is(winsock.POSIX(err), syscall.EADDRINUSE) }

// ParseSocketMode parses an octal mode of 9 bits that lets at least the owner connect.
func ParseSocketMode(text string) (os.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 9)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--socket-mode %s: not an octal mode such as 0660", text)
	case mode&0o600 != 0o600:
		return 0, fmt.Errorf("--socket-mode %s: the owner must have permission to read and write, as with 0600", text)
	}
	return os.FileMode(mode), nil
}
