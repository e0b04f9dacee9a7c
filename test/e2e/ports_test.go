//go:build unix

package e2e

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// freeAddress returns an address without a listener, as freePorts does.
func freeAddress(t *testing.T) string {
	t.Helper()
	return loopback(freePorts(t, 1))
}

// freePorts returns the first of n consecutive ports without a listener. They stay free for the test,
// even if it listens again and again: outgoing connections and clusters have higher ports.
func freePorts(t *testing.T, n int) int {
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

// reservePort reports whether a port is free, and reserves it until the test ends. The reservation is
// a UDP socket, so that it holds for all processes and does not conflict with listeners.
func reservePort(t *testing.T, port int) bool {
	t.Helper()
	reservation, err := net.ListenPacket("udp", loopback(port))
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

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
