package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Listen opens a listener at an address. A unix socket gets the given mode.
func Listen(ctx context.Context, address Addr, socketMode os.FileMode) (net.Listener, error) {
	listener, err := open(ctx, address, socketMode)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; %s", err, portInUseHint)
	}
	return listener, err
}

const portInUseHint = "another PostgreSQL or iamproxy has it: --listen 127.0.0.1:6432"

func open(ctx context.Context, address Addr, socketMode os.FileMode) (net.Listener, error) {
	if address.Unix {
		return listenUnix(ctx, address.String(), socketMode)
	}
	var config net.ListenConfig
	if address.isLoopback() {
		// Clients on loopback cannot vanish, and keep-alives cost four system calls for each.
		config.KeepAlive = -1
	}
	return config.Listen(ctx, address.Network(), address.String())
}

// ParseSocketMode parses an octal mode of 9 bits that lets at least the owner connect.
func ParseSocketMode(text string) (os.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 9)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--socket-mode %s: not an octal mode such as 0660", text)
	case mode&0o600 != 0o600:
		return 0, fmt.Errorf("--socket-mode %s: the owner has to be able to read and write, as with 0600", text)
	}
	return os.FileMode(mode), nil
}
