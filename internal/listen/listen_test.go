package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestParseAddr(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:5432":             "tcp 127.0.0.1:5432",
		"[::1]:0":                    "tcp [::1]:0",
		":1":                         "tcp :1",
		"localhost:1":                "tcp localhost:1",
		"localhost":                  "tcp localhost:5432",
		"6000":                       "tcp localhost:6000",
		"127.0.0.1":                  "tcp 127.0.0.1:5432",
		"[::1]":                      "tcp [::1]:5432",
		"unix:/run/db":               "unix /run/db/.s.PGSQL.5432",
		"unix:/run/db/":              "unix /run/db/.s.PGSQL.5432",
		"unix:/run/db/.s.PGSQL.6000": "unix /run/db/.s.PGSQL.6000",
		"unix:relative":              "unix relative/.s.PGSQL.5432",
	} {
		addr, err := ParseAddr(text)
		if got := addr.Network() + " " + filepath.ToSlash(addr.String()); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"::1":                               "needs brackets, as in [::1]:5432",
		"::1:5432":                          "needs brackets, as in [::1]:5432",
		"mydb":                              "neither HOST:PORT nor unix:DIR",
		"65536":                             `"65536" is not a port`,
		"127.0.0.1:x":                       `"x" is not a port`,
		"example.com:5432":                  "neither localhost nor an address",
		"unix:":                             "no directory",
		"unix:@iamproxy":                    "no file mode that restricts clients",
		"unix:/tmp/.s.PGSQL.0":              `"0" is not a port`,
		"unix:/" + strings.Repeat("d", 100): "maximum 103",
	} {
		if addr, err := ParseAddr(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", text, addr, err, want)
		}
	}
}

// The advice for a port in use is another port.
func TestPortInUseHint(t *testing.T) {
	for _, port := range []uint64{5432, 6432} {
		if hint := portInUseHint(port); strings.Contains(hint, fmt.Sprint(port)) {
			t.Errorf("%d: %s", port, hint)
		}
	}
}

// An address beyond loopback needs --allow-from.
func TestValidateAddr(t *testing.T) {
	allowFrom := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for text, local := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, "unix:/run/db": true,
		"0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "[::]:1": false,
	} {
		addr, err := ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := addr.Validate(nil); (err == nil) != local {
			t.Errorf("%s: %v", text, err)
		}
		if err := addr.Validate(allowFrom); err != nil {
			t.Errorf("%s with --allow-from: %v", text, err)
		}
	}
}

// A listener without a certain host is reached through the address that it has.
func TestDial(t *testing.T) {
	v4, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer v4.Close()
	_, port, _ := net.SplitHostPort(v4.Addr().String())
	for _, host := range []string{"", "0.0.0.0", "[::]", "127.0.0.1", "localhost"} {
		conn, err := Dial(t.Context(), "tcp", host+":"+port)
		if err != nil {
			t.Errorf("%q: %v", host, err)
			continue
		}
		conn.Close()
	}
	v4.Close()
	for address, network := range map[string]string{":" + port: "tcp", "127.0.0.1:" + port: "tcp", filepath.Join(t.TempDir(), "s"): "unix"} {
		if _, err := Dial(t.Context(), network, address); !errors.Is(err, ErrNoListener) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestLocalAddr(t *testing.T) {
	for address, want := range map[string]string{
		"0.0.0.0:1": "localhost:1", "[::]:1": "localhost:1", "10.0.0.1:1": "10.0.0.1:1", "[::1]:1": "[::1]:1",
	} {
		if got := LocalAddr(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

// listenAt listens on the unix socket in a directory.
func listenAt(t *testing.T, mode os.FileMode, dir string) (net.Listener, error) {
	t.Helper()
	addr, err := ParseAddr("unix:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := Listen(t.Context(), addr, mode)
	if err != nil {
		return nil, err
	}
	return listeners[0], nil
}

// localhost has one port at both of its addresses. If another program has that port at one of
// them, neither is listened on.
func TestLocalhost(t *testing.T) {
	open := func(t *testing.T, port uint64) ([]net.Listener, error) {
		listeners, err := Listen(t.Context(), Addr{Host: localhost, Port: port}, 0)
		t.Cleanup(func() {
			for _, l := range listeners {
				l.Close()
			}
		})
		return listeners, err
	}
	listeners, err := open(t, 0)
	if err != nil {
		t.Fatal(err)
	}
	addr := func(i int) netip.AddrPort { return listeners[i].Addr().(*net.TCPAddr).AddrPort() }
	if addr(0).Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("listens at %v first", addr(0))
	}
	if name := (Addr{Host: localhost}).Name(listeners); name != fmt.Sprintf("localhost:%d", addr(0).Port()) {
		t.Errorf("named %s", name)
	}
	if len(listeners) == 1 {
		if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
			l.Close()
			t.Error("does not listen at ::1, which this host has")
		}
		return
	}
	if addr(1) != netip.AddrPortFrom(netip.IPv6Loopback(), addr(0).Port()) {
		t.Errorf("listens at %v besides %v", addr(1), addr(0))
	}
	for i, l := range listeners {
		l.Close() // the other one is in use
		if _, err := open(t, uint64(addr(i).Port())); err == nil || !strings.Contains(err.Error(), addr(1-i).String()) {
			t.Errorf("with %v in use: %v", addr(1-i), err)
		}
		if listeners[i], err = net.Listen("tcp", addr(i).String()); err != nil {
			t.Fatalf("a listener was left open: %v", err)
		}
	}
}

func mustListen(t *testing.T, mode os.FileMode, dir string) net.Listener {
	t.Helper()
	listener, err := listenAt(t, mode, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func TestUnixSocket(t *testing.T) {
	needUnixSockets(t)
	dir := filepath.Join(t.TempDir(), "made")
	path := filepath.Join(dir, ".s.PGSQL.5432")
	for _, mode := range []os.FileMode{0o660, 0o600, 0o777} {
		listener := mustListen(t, mode, dir)
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != mode|fs.ModeSocket {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
		}
		listener.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket file remains: %v", err)
		}
	}
	before, err := os.CreateTemp(dir, "mode")
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if info, err := before.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the umask was not restored: new files have mode %v, %v", info.Mode(), err)
	}
}

func TestExistingUnixSocket(t *testing.T) {
	needUnixSockets(t)
	dir := t.TempDir()
	path := filepath.Join(dir, ".s.PGSQL.5432")

	leaveSocket(t, path)
	live := mustListen(t, 0o660, dir)

	if _, err := listenAt(t, 0o660, dir); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("second listener: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the socket in use was removed: %v", err)
	}
	conn.Close()
	live.Close()

	// Close does not remove a socket file that another process has created since.
	ours := mustListen(t, 0o660, dir)
	os.Remove(path)
	theirs, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of another process was removed: %v", err)
	}
	theirs.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(t, 0o660, dir); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if content, _ := os.ReadFile(path); string(content) != "precious" {
		t.Error("a regular file was removed")
	}
	if _, err := listenAt(t, 0o660, filepath.Join(dir, "no", "such")); err == nil {
		t.Error("a directory was created in a missing one")
	}
}

// If several processes start at once and find a dead socket, one replaces it and keeps it.
func TestUnixSocketRace(t *testing.T) {
	needUnixSockets(t)
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, ".s.PGSQL.5432")
		leaveSocket(t, path)
		var all sync.WaitGroup
		listeners := make(chan net.Listener, 8)
		for range 8 {
			all.Go(func() {
				if listener, err := listenAt(t, 0o660, dir); err == nil {
					listeners <- listener
				}
			})
		}
		all.Wait()
		if len(listeners) != 1 {
			t.Fatalf("%d listeners", len(listeners))
		}
		listener := <-listeners
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		listener.Close()
	}
}

// leaveSocket creates the socket file of a process that has died.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
}

func needUnixSockets(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no unix sockets on Windows")
	}
}

// An IPv4 address, also 0.0.0.0, admits no clients with IPv6: the listener's own address shows it.
func TestIPv4Only(t *testing.T) {
	for host, want := range map[string]bool{"0.0.0.0": true, "127.0.0.1": true, "": false} {
		listeners, err := Listen(t.Context(), Addr{Host: host}, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer listeners[0].Close()
		bound := listeners[0].Addr().(*net.TCPAddr)
		if got := bound.IP.To4() != nil; got != want && (want || hasIPv6()) {
			t.Errorf("%q listens at %s", host, bound)
		}
	}
}

func hasIPv6() bool {
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	listener.Close()
	return true
}
