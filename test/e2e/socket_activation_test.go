//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// passSocket passes a listening socket to a command as systemd does.
func passSocket(cmd *exec.Cmd, socket *os.File) *exec.Cmd {
	shell := exec.Command("sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$0" "$@"`}, cmd.Args...)...)
	shell.Env = append(cmd.Env, "LISTEN_FDS=1")
	shell.ExtraFiles = []*os.File{socket}
	return shell
}

// passable returns a socket that stays non-blocking when it is passed (systemd's
// NonBlocking=true). os.File would make it blocking.
func passable(t *testing.T, listener interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	known, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer known.Close()
	fd, err := syscall.Dup(int(known.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { file.Close() })
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return file
}

func startPassed(t *testing.T, cluster *aurora.Cluster, address string, socket *os.File) *process {
	t.Helper()
	cmd := exec.Command(binaryPath(t), clusterArgs(cluster, "--drain-max=1m", "--listen="+address)...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	return startCommand(t, passSocket(cmd, socket), 1)
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener)
}

// Processes with the same listening socket take turns under a load of new clients: no
// client is rejected, and the old sessions continue until they end.
func TestRestartWithoutRefusal(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	listener := listenTCP(t)
	address, socket := listener.Addr().String(), passable(t, listener)
	p := startPassed(t, cluster, address, socket)

	var stop atomic.Bool
	var served atomic.Int64
	var clients sync.WaitGroup
	conninfo := p.conninfo(aurora.IAMUser, aurora.Database) + " sslmode=disable connect_timeout=60"
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				conn, err := pgx.Connect(t.Context(), conninfo)
				if err != nil {
					t.Errorf("a client was turned away: %v", err)
					return
				}
				if _, err := conn.Exec(t.Context(), "select 1"); err != nil {
					t.Errorf("a session broke: %v", err)
				}
				_ = conn.Close(t.Context())
				served.Add(1)
			}
		})
	}
	for range 4 {
		long, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err != nil {
			t.Fatal(err)
		}
		next := startPassed(t, cluster, address, socket)
		before := served.Load()
		p.signal(syscall.SIGTERM)
		until(t, "more clients to be served", func() bool { return served.Load() >= before+40 || t.Failed() })
		mustExec(t, long, "select 1")
		_ = long.Close(t.Context())
		if code := p.wait(); code != 0 {
			t.Errorf("the old one ended with %d", code)
		}
		if !strings.Contains(p.logs(), `"sessions_cut":0`) {
			t.Error("the old one cut a session")
		}
		p = next
	}
	stop.Store(true)
	clients.Wait()
	t.Logf("%d clients were served", served.Load())
}

func TestInheritedUnixSocketStays(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	dir := t.TempDir()
	path := filepath.Join(dir, ".s.PGSQL.5432")
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.Command(binaryPath(t), append(clusterArgs(cluster), "--listen=unix:"+dir)...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	p := startCommand(t, passSocket(cmd, passable(t, socket)), 1)
	if out, err := psqlAt(t, "host="+dir+" user="+aurora.IAMUser+" dbname="+aurora.Database, "select 1"); err != nil || out != "1" {
		t.Errorf("psql: %v: %s", err, out)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the socket of somebody else is gone: %v", err)
	}
}

// An inherited socket that no flag names is an error.
func TestUnclaimedSocket(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	cmd := exec.Command(binaryPath(t), clusterArgs(cluster)...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	socket := listenTCP(t)
	out, err := combinedOutput(t, passSocket(cmd, passable(t, socket)))
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 2 || !strings.Contains(string(out), socket.Addr().String()) {
		t.Errorf("ended with %v: %s", err, out)
	}
}

// The error of an inherited socket at all addresses names it: the port is not in use otherwise.
func TestInheritedSocketAtAllAddresses(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	socket, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.Command(binaryPath(t), append(clusterArgs(cluster), fmt.Sprintf("--listen=localhost:%d", socket.Addr().(*net.TCPAddr).Port))...)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	out, err := combinedOutput(t, passSocket(cmd, passable(t, socket.(*net.TCPListener))))
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 2 || !strings.Contains(string(out), "inherited socket "+socket.Addr().String()+" (LISTEN_FDS) is not at localhost:") {
		t.Errorf("ended with %v: %s", err, out)
	}
}

// systemd is notified when it is ready and when it stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	p := startProxy(t, append(keyEnvironment(aurora.DefaultKey), "NOTIFY_SOCKET="+path), clusterArgs(cluster)...)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		b := make([]byte, 1000)
		n, err := socket.Read(b)
		if got := string(b[:n]); err != nil || got != want {
			t.Errorf("systemd was told %q, %v; want %q", got, err, want)
		}
		p.signal(syscall.SIGTERM)
	}
	p.wait()
}

// A connected socket, as systemd passes with Accept=yes, is rejected.
func TestInheritedConnectedSocket(t *testing.T) {
	t.Parallel()
	listener := listenTCP(t)
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd := exec.Command(binaryPath(t), aurora.DefaultHost, "--listen="+listener.Addr().String(), "--admin=off")
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	shell := passSocket(cmd, passable(t, conn.(*net.TCPConn)))
	out, _ := combinedOutput(t, shell)
	if code := shell.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "it does not listen") {
		t.Errorf("ended with %d: %s", code, out)
	}
}
