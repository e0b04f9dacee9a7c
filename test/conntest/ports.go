package conntest

import (
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"testing"
)

// ClosedAddress returns an address of loopback that refuses connections until the end of the test. Its
// port belongs to a connection, so that no listener of another test or process receives it.
func ClosedAddress(t testing.TB) string {
	t.Helper()
	_, dialed := TCPPair(t)
	return dialed.LocalAddr().String()
}

// FreeAddress returns an address without a listener, as FreePorts does.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return loopback(FreePorts(t, 1))
}

// FreePorts returns the first of n consecutive ports without a listener. They stay free for the test,
// even if it listens again and again: outgoing connections and clusters have higher ports.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	for {
		first, reserved := 10_000+rand.IntN(6_000), 0
		for reserved < n && reservePort(t, first+reserved) {
			reserved++
		}
		if reserved == n {
			return first
		}
	}
}

// reservePort reports whether a port is free, and reserves it until the test ends. The reservation
// holds for all processes and does not conflict with listeners.
func reservePort(t testing.TB, port int) bool {
	t.Helper()
	reservation, err := reserve(port)
	if err != nil {
		return false
	}
	t.Cleanup(func() { reservation.Close() })
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	listener.Close()
	return true
}

// reserve opens a UDP socket. On Windows it opens a TCP socket at another loopback address, since
// Wine has no UDP sockets for Go.
func reserve(port int) (io.Closer, error) {
	if runtime.GOOS == "windows" {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(port)))
	}
	return net.ListenPacket("udp", loopback(port))
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
