package peercred

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// as calls f on a separate thread with the effective user uid.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can change its user")
	}
	failed := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread()
		unchanged := ^uintptr(0)
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, unchanged, uintptr(uid), unchanged)
		if errno == 0 {
			f()
		}
		failed <- errno
	}()
	if errno := <-failed; errno != 0 {
		t.Fatal(errno)
	}
}

// connectAs connects as the user uid and returns both ends.
func connectAs(t *testing.T, uid int, network, address, from string) (theirs, ours net.Conn) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	target := listener.Addr().String()
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		target = net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	as(t, uid, func() {
		var dialer net.Dialer
		if from != "" {
			dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
		}
		theirs, err = dialer.DialContext(t.Context(), network, target)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if ours, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return theirs, ours
}

func TestUser(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ network, address, from string }{
		"IPv4":                       {"tcp", "127.0.0.1:0", ""},
		"IPv4 from another address":  {"tcp", "127.0.0.1:0", "127.9.8.7"},
		"IPv6":                       {"tcp", "[::1]:0", ""},
		"IPv4 at a listener of both": {"tcp", ":0", "127.0.0.1"},
		"unix":                       {"unix", filepath.Join(dir, "socket"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, uid := range []int{0, 1234, 65534} {
				_, ours := connectAs(t, uid, test.network, test.address, test.from)
				if got, err := User(ours); err != nil || int(got) != uid {
					t.Errorf("user %d, %v, want %d", got, err, uid)
				}
			}
		})
	}
}

// A client that has only shut down its writing side, as for a CancelRequest, is identified.
func TestUserHalfClosed(t *testing.T) {
	theirs, ours := connectAs(t, 1234, "tcp", "127.0.0.1:0", "")
	if err := theirs.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if uid, err := User(ours); err != nil || uid != 1234 {
		t.Errorf("user %d, %v", uid, err)
	}
}

// The kernel reports root as the owner of a socket that its process has closed.
func TestUserUnknown(t *testing.T) {
	theirs, ours := connectAs(t, 1234, "tcp", "127.0.0.1:0", "")
	theirs.Close()
	if uid, err := User(ours); err == nil {
		t.Errorf("a closed client is identified as user %d", uid)
	}
	theirs, ours = connectAs(t, 1234, "tcp", "127.0.0.1:0", "")
	_ = theirs.(*net.TCPConn).SetLinger(0)
	theirs.Close()
	if uid, err := User(ours); err == nil {
		t.Errorf("a reset client is identified as user %d", uid)
	}
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if uid, err := User(one); err == nil {
		t.Errorf("the client of a pipe is identified as user %d", uid)
	}
}

// A client that has reset its connection is not taken for another that has its port now.
func TestPortReused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var second net.Conn
	for second == nil {
		var first net.Conn
		as(t, 1234, func() { first, err = net.Dial("tcp", listener.Addr().String()) })
		if err != nil {
			t.Fatal(err)
		}
		_, _ = first.Write([]byte("query"))
		_ = first.(*net.TCPConn).SetLinger(0)
		first.Close()
		as(t, 4321, func() {
			dialer := net.Dialer{LocalAddr: first.LocalAddr()}
			second, err = dialer.Dial("tcp", listener.Addr().String())
		})
		if errors.Is(err, unix.EADDRINUSE) { // by other connections of this host: try another port
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	defer second.Close()
	ours, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if uid, err := User(ours); err == nil {
		t.Errorf("the connection of user 1234 is identified as that of user %d", uid)
	}
}

// Clients with the same port at different addresses are told apart.
func TestSamePort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := 0
	users := map[string]int{"127.0.0.1": 1234, "127.0.0.2": 0, "127.0.0.3": 4321}
	for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		var theirs net.Conn
		as(t, users[from], func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from), Port: port}}
			theirs, err = dialer.Dial("tcp", listener.Addr().String())
		})
		if err != nil {
			t.Skip("the port is taken: ", err)
		}
		defer theirs.Close()
		port = theirs.LocalAddr().(*net.TCPAddr).Port
	}
	for range users {
		ours, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		host, _, _ := net.SplitHostPort(ours.RemoteAddr().String())
		if got, err := User(ours); err != nil || int(got) != users[host] {
			t.Errorf("%s is user %d, %v, want %d", host, got, err, users[host])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make([]byte, messageSize))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if message, err := parse(answer); err == nil && len(message) < messageSize {
			t.Errorf("parse accepts %d bytes", len(message))
		}
	})
}

func BenchmarkUser(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	theirs, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer theirs.Close()
	ours, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer ours.Close()
	for b.Loop() {
		if _, err := User(ours); err != nil {
			b.Fatal(err)
		}
	}
}
