//go:build linux

// Package netem connects this host and another one, a network namespace, by a network with
// faults: delay, loss, cuts and resets. This process copies the packets between two TUN
// devices, since not all kernels have the netem qdisc. TCP is that of the kernel on both
// sides.
package netem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrNotPermitted reports that this account cannot make namespaces or devices.
var ErrNotPermitted = errors.New("netem: this account, or root of this container, makes no network namespaces")

// Conditions describe the faults of the network. The zero value has none. A change applies
// to packets that are sent after it.
type Conditions struct {
	// Delay is the transit time of a packet.
	Delay time.Duration
	// Loss is the fraction of packets that are dropped, from 0 to 1.
	Loss float64
	// Reset is the fraction of TCP packets with data that make a middlebox reset their
	// connection on both sides.
	Reset float64
	// CutUp drops all packets from the other host, and CutDown all packets to it.
	CutUp, CutDown bool
}

// Link is a network of two hosts. Its methods are safe for concurrent use, but not after
// Close.
type Link struct {
	keeper      *exec.Cmd // the process that keeps the other host
	alive       *os.File  // ends the keeper when this process ends
	here, there string
	near, far   *os.File // TUN devices
	up, down    *lane    // to this host, and to the other
	carriers    sync.WaitGroup
	other       *os.File // the namespace
}

// New makes the other host and the network. seed is the seed of all random choices.
func New(seed uint64) (*Link, error) {
	l := &Link{}
	if err := l.open(seed); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Link) open(seed uint64) (err error) {
	if err := l.keep(); err != nil {
		return err
	}
	if l.other, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", l.keeper.Process.Pid)); err != nil {
		return err
	}
	// Addresses for benchmarks (RFC 2544) are free to use.
	pid := l.keeper.Process.Pid
	subnet := fmt.Sprintf("198.%d.%d.", 18+pid>>14&1, pid>>6&255)
	last := pid & 63 << 2
	l.here, l.there = subnet+strconv.Itoa(last+1), subnet+strconv.Itoa(last+2)
	name := "iam" + strconv.Itoa(pid)
	if l.near, err = openTUN(name, l.here, l.there); err != nil {
		return err
	}
	if err := elsewhere(l.other, func() (err error) {
		l.far, err = openTUN(name, l.there, l.here)
		return err
	}); err != nil {
		return err
	}
	l.up, l.down = newLane(l.far, l.near, seed), newLane(l.near, l.far, seed+1)
	for _, run := range []func(){l.up.read, l.up.deliver, l.down.read, l.down.deliver} {
		l.carriers.Go(run)
	}
	return nil
}

// keep starts the keeper, which ends with this process in any case.
func (l *Link) keep() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	l.alive = write
	l.keeper = exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo made && exec cat")
	var said strings.Builder
	l.keeper.Stdin, l.keeper.Stderr = read, &said
	out, err := l.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := l.keeper.Start(); err != nil {
		l.keeper = nil
		return err
	}
	if _, err := out.Read(make([]byte, len("made\n"))); err != nil {
		return fmt.Errorf("%w: %s", ErrNotPermitted, said.String())
	}
	return nil
}

// Close removes the network and the other host, if no process is left there.
func (l *Link) Close() error {
	for _, device := range []*os.File{l.near, l.far} {
		if device != nil {
			device.Close()
		}
	}
	l.carriers.Wait()
	if l.other != nil {
		l.other.Close()
	}
	if l.alive != nil {
		l.alive.Close()
	}
	if l.keeper != nil {
		_ = l.keeper.Wait() // ends by the signal, or with the pipe
	}
	return nil
}

// Here returns the address of this host.
func (l *Link) Here() string { return l.here }

// There returns the address of the other host.
func (l *Link) There() string { return l.there }

// SetConditions sets the conditions for packets that are sent from now on.
func (l *Link) SetConditions(c Conditions) {
	l.up.set(c, c.CutUp)
	l.down.set(c, c.CutDown)
}

// Command returns a command that runs on the other host. Its process becomes the program.
func (l *Link) Command(name string, args ...string) *exec.Cmd {
	target := strconv.Itoa(l.keeper.Process.Pid)
	return exec.Command("nsenter", append([]string{"--target", target, "--net", name}, args...)...)
}

// Dial connects from the other host to a literal address, such as its own loopback.
func (l *Link) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	failed := elsewhere(l.other, func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, failed
}

// Listen listens on the other host, at a literal address.
func (l *Link) Listen(network, address string) (listener net.Listener, err error) {
	failed := elsewhere(l.other, func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, failed
}

// ListenPacket is Listen for packets.
func (l *Link) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	failed := elsewhere(l.other, func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, failed
}
