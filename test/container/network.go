//go:build linux

package container

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iamproxy/iamproxy/test/conntest"
)

// Network is a network namespace with a loopback interface only. The containers of a task
// or a pod share one.
type Network struct{ path string }

// NewNetwork makes a network that is removed after the test.
func NewNetwork(t testing.TB) Network {
	t.Helper()
	keeper := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up && echo made && exec sleep infinity")
	out, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = keeper.Process.Kill()
		_ = keeper.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("cannot make a network namespace: %v %s; it needs root", err, line)
	}
	return Network{"/proc/" + strconv.Itoa(keeper.Process.Pid) + "/ns/net"}
}

// Path returns the file of the namespace, for programs such as ip.
func (n Network) Path() string { return n.path }

// Command returns a command in the network, with env for its whole environment.
func (n Network) Command(env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--net=" + n.path, program}, args...)...)
	cmd.Env = env
	return cmd
}

// Join connects two networks, and returns the address of the first one in the second. The
// address is one of those for benchmarks (RFC 2544).
func Join(t testing.TB, a, b Network) string {
	t.Helper()
	const addressA, addressB = "198.18.0.1", "198.18.0.2"
	for _, cmd := range []*exec.Cmd{
		a.Command(os.Environ(), "ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b.path),
		a.Command(os.Environ(), "ip", "address", "add", addressA+"/30", "dev", "cable"),
		b.Command(os.Environ(), "ip", "address", "add", addressB+"/30", "dev", "cable"),
		a.Command(os.Environ(), "ip", "link", "set", "cable", "up"),
		b.Command(os.Environ(), "ip", "link", "set", "cable", "up"),
	} {
		if out, err := Run(cmd); err != nil {
			t.Fatalf("%v: %v: %s", cmd.Args, err, out)
		}
	}
	return addressA
}

// Enter calls f on a thread in the network. Sockets that f opens stay in the network.
func (n Network) Enter(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		result <- n.enter(f)
	}()
	return <-result
}

// Listen opens a listener on a free port of loopback in the network, until the end of the test.
func (n Network) Listen(t testing.TB) net.Listener {
	t.Helper()
	var listener net.Listener
	if err := n.Enter(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// Serve serves each connection to a free port of loopback in the network with handle, which closes
// it, until the end of the test. It returns the address of the port.
func (n Network) Serve(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	listener := n.Listen(t)
	go conntest.Accept(listener, handle)
	return listener.Addr().String()
}

// Relay forwards connections to a free port of loopback in the network to an address of this
// machine, until the end of the test. It returns the address of the port.
func (n Network) Relay(t testing.TB, address string) string {
	t.Helper()
	return n.Serve(t, func(client net.Conn) {
		server, err := net.Dial("tcp", address)
		if err != nil {
			client.Close()
			return
		}
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() {
				defer pair[0].Close()
				_, _ = io.Copy(pair[0], pair[1])
			}()
		}
	})
}

func (n Network) enter(f func() error) error {
	file, err := os.Open(n.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network %s: %w", n.path, err)
	}
	return f()
}
