package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
)

// listenings are the endpoints' addresses.
func listenings(t *testing.T, first string, listens ...string) (addresses []string) {
	t.Helper()
	endpoints := make([]endpoint, len(listens))
	for i, listen := range listens {
		endpoints[i].listen = listen
	}
	if err := listenAddresses(endpoints, first); err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		addresses = append(addresses, e.listening.network()+" "+e.listening.String())
	}
	return addresses
}

func TestListenAddresses(t *testing.T) {
	for _, test := range []struct {
		first   string
		listens []string
		want    string
	}{
		{"127.0.0.1:5432", []string{"", "[::1]:7000", "", ""}, "tcp 127.0.0.1:5432, tcp [::1]:7000, tcp 127.0.0.1:5433, tcp 127.0.0.1:5434"},
		{"127.0.0.1:0", []string{"", ""}, "tcp 127.0.0.1:0, tcp 127.0.0.1:0"}, // any free port, for each
		{"unix:/run/db", []string{"", "", "127.0.0.1:1"}, "unix /run/db/.s.PGSQL.5432, unix /run/db/.s.PGSQL.5433, tcp 127.0.0.1:1"},
		{"unix:/run/db/.s.PGSQL.6000", []string{"", "", "unix:/run/other/"}, "unix /run/db/.s.PGSQL.6000, unix /run/db/.s.PGSQL.6001, unix /run/other/.s.PGSQL.5432"},
		{"unix:relative", []string{""}, "unix relative/.s.PGSQL.5432"},
	} {
		if got := strings.Join(listenings(t, test.first, test.listens...), ", "); got != test.want {
			t.Errorf("--listen %s: got %s, want %s", test.first, got, test.want)
		}
	}
}

func listenTo(t *testing.T, mode os.FileMode, addresses ...string) ([]net.Listener, error) {
	t.Helper()
	endpoints := make([]endpoint, len(addresses))
	for i, address := range addresses {
		listening, err := parseListen(address)
		if err != nil {
			t.Fatal(err)
		}
		endpoints[i] = endpoint{host: host, listening: listening}
	}
	c := &runCommand{Admin: adminOff}
	all, err := c.listen(t.Context(), settings{endpoints: endpoints, socketMode: mode}, zap.NewNop())
	var opened []net.Listener
	for _, one := range all.endpoints {
		opened = append(opened, one)
	}
	return opened, err
}

func mustListen(t *testing.T, mode os.FileMode, address string) net.Listener {
	t.Helper()
	listeners, err := listenTo(t, mode, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listeners[0].Close() })
	return listeners[0]
}

func TestAllListenersOrNone(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	if _, err := listenTo(t, 0, address, address); err == nil {
		t.Fatal("two listeners at one address")
	}
	mustListen(t, 0, address) // the first was not left open
}

func TestUnixSocket(t *testing.T) {
	needUnixSockets(t)
	dir := filepath.Join(t.TempDir(), "made")
	path := filepath.Join(dir, ".s.PGSQL.5432")
	for _, mode := range []os.FileMode{0o660, 0o600, 0o777} {
		listener := mustListen(t, mode, "unix:"+dir)
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != mode|fs.ModeSocket {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
		}
		listener.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	}
	before, err := os.CreateTemp(dir, "mode")
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if info, err := before.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the umask was not put back: files have the mode %v, %v", info.Mode(), err)
	}
}

func TestUnixSocketThatIsThere(t *testing.T) {
	needUnixSockets(t)
	dir := t.TempDir()
	path := filepath.Join(dir, ".s.PGSQL.5432")

	leaveSocket(t, path)
	live := mustListen(t, 0o660, "unix:"+dir)

	if _, err := listenTo(t, 0o660, "unix:"+dir); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a second listener: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the live socket was taken away: %v", err)
	}
	conn.Close()
	live.Close()

	// The socket of another, made where ours was taken away, is not ours to remove.
	ours := mustListen(t, 0o660, "unix:"+dir)
	os.Remove(path)
	theirs, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("somebody else's socket was removed: %v", err)
	}
	theirs.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenTo(t, 0o660, "unix:"+dir); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if content, _ := os.ReadFile(path); string(content) != "precious" {
		t.Error("a file that is no socket was removed")
	}
	if _, err := listenTo(t, 0o660, "unix:"+filepath.Join(dir, "no", "such")); err == nil {
		t.Error("a directory was made in one that is not there")
	}
}

// Of many that start at once over a dead socket, one gets it and keeps it.
func TestUnixSocketRace(t *testing.T) {
	needUnixSockets(t)
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, ".s.PGSQL.5432")
		leaveSocket(t, path)
		var all sync.WaitGroup
		won := make(chan net.Listener, 8)
		for range 8 {
			all.Go(func() {
				if listeners, err := listenTo(t, 0o660, "unix:"+dir); err == nil {
					won <- listeners[0]
				}
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("%d listeners", len(won))
		}
		listener := <-won
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		listener.Close()
	}
}

// leaveSocket makes a socket that nobody listens to any more.
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
		t.Skip("unix sockets are for unix systems")
	}
}
