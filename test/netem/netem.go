//go:build linux

// Package netem joins this host and another one, a network namespace, by a network that
// can be made bad: slow, lossy, cut, one that resets connections. The packets go through
// this process, from one TUN device to another, since not every kernel has netem. TCP is
// the kernel's own on both sides, with all that it does about that.
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

// ErrNotPermitted is that of an account that may make neither namespaces nor devices.
var ErrNotPermitted = errors.New("netem: this account, or root of this container, makes no network namespaces")

// Conditions is what happens to packets. The zero value is a clear day. What is on its way
// when it changes arrives as it would have.
type Conditions struct {
	// Delay is how long a packet is on its way.
	Delay time.Duration
	// Loss is the share of packets that never arrive, from 0 to 1.
	Loss float64
	// Reset is the share of TCP's packets with data that come to a middlebox which has
	// forgotten their connection: it is reset on both sides.
	Reset float64
	// CutUp has nothing arrive here that the other host sends, and CutDown nothing there that
	// this one does.
	CutUp, CutDown bool
}

// Link is a network of two hosts. Its methods may be called concurrently, but not after
// Close.
type Link struct {
	keeper      *exec.Cmd // the process that is on the other host as long as that is to be
	alive       *os.File  // ends the keeper when this process has ended
	here, there string
	near, far   *os.File // TUN devices
	up, down    *lane    // to this host, and to the other
	carriers    sync.WaitGroup
	other       *os.File // the namespace
}

// New makes the other host, and the network. Chance goes by seed.
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
	// Addresses for benchmarks (RFC 2544), which nobody else uses.
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

// keep starts the keeper, which ends with this process, however that ends.
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

// Close ends the network and the other host, if no process is left there.
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

// Here is the address of this host, and There that of the other one.
func (l *Link) Here() string { return l.here }

// There is the address of the other host.
func (l *Link) There() string { return l.there }

// SetConditions goes for what is sent from now on.
func (l *Link) SetConditions(w Conditions) {
	l.up.set(w, w.CutUp)
	l.down.set(w, w.CutDown)
}

// Command is a program on the other host. The process that is started is the program's
// in the end.
func (l *Link) Command(name string, args ...string) *exec.Cmd {
	target := strconv.Itoa(l.keeper.Process.Pid)
	return exec.Command("nsenter", append([]string{"--target", target, "--net", name}, args...)...)
}

// Dial connects from the other host to a literal address, its own loopback for one.
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
