//go:build unix

package aurora

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStopAndComeBack(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{})
	ctx := testContext(t)
	token := mint(t, signing{})
	conn := mustLogin(t, c, IAMUser, token)
	if _, err := conn.Exec(ctx, "CREATE TABLE kept AS SELECT 42 AS n"); err != nil {
		t.Fatal(err)
	}

	// Smart waits for the client, without a limit.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(short, Smart); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("smart, with a client: %v", err)
	}
	conn.Close(ctx)
	if err := c.Stop(ctx, Smart); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(ctx, Fast); err != nil {
		t.Fatalf("stopped already: %v", err)
	}
	old := c.Addr()
	if conn, err := net.Dial("tcp", old); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		t.Errorf("stopped, but dialling gives %v", err)
	}
	if err := c.Freeze(); err == nil {
		t.Error("a stopped server was frozen")
	}

	check := func() {
		t.Helper()
		var n int
		if err := mustLogin(t, c, IAMUser, token).QueryRow(ctx, "SELECT n FROM kept").Scan(&n); err != nil || n != 42 {
			t.Errorf("data: %d, %v", n, err)
		}
	}
	if err := c.StartOnNewPort(ctx); err != nil {
		t.Fatal(err)
	}
	if c.Addr() == old {
		t.Errorf("still at %s", old)
	}
	check()

	old = c.Addr()
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if c.Addr() != old {
		t.Errorf("moved from %s to %s", old, c.Addr())
	}
	check()

	for mode, want := range map[Mode]string{Fast: "57P01", Immediate: "57P02"} {
		conn := mustLogin(t, c, IAMUser, token)
		if err := c.Stop(ctx, mode); err != nil {
			t.Fatal(err)
		}
		// Immediate may cut the connection before the message is sent.
		if _, err := conn.Exec(ctx, "SELECT 1"); sqlState(err) != want && (mode == Fast || err == nil) {
			t.Errorf("%s: client is told %v, want %s", mode, err, want)
		}
		if err := c.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if err := c.Stop(ctx, "slow"); err == nil {
		t.Error("unknown mode accepted")
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{})
	ctx := testContext(t)
	token := mint(t, signing{})
	conn := mustLogin(t, c, IAMUser, token)

	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := c.Freeze(); err != nil {
		t.Errorf("twice: %v", err)
	}
	members, err := family(c.server.pid())
	if err != nil || len(members) < 3 {
		t.Errorf("%d processes: %v", len(members), err)
	}
	for _, m := range members {
		if !m.stopped() && !m.zombie() {
			t.Errorf("process %d runs", m.pid)
		}
	}
	// The kernel still accepts connections, but the server does not answer.
	raw, err := net.Dial("tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	_ = raw.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // otherwise Read reports it
	if _, err := raw.Read(answer[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen server answers: %v", err)
	}

	if err := c.Thaw(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("session did not survive: %v", err)
	}
	_ = raw.SetReadDeadline(time.Now().Add(testLimit))
	if _, err := raw.Read(answer[:]); err != nil || answer[0] != 'S' {
		t.Errorf("thawed: %q, %v", answer, err)
	}
	if err := c.Thaw(); err != nil {
		t.Errorf("twice: %v", err)
	}

	// Stop thaws the server first.
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	mustLogin(t, c, IAMUser, token)
	if err := c.Freeze(); err != nil { // for Close
		t.Fatal(err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{})
	mustLogin(t, c, IAMUser, mint(t, signing{}))
	dir := c.dir
	members, err := family(c.server.pid())
	if err != nil {
		t.Fatal(err)
	}
	leftovers := append(pids(members), c.janitor.cmd.Process.Pid)
	ldap := c.ldap.listener.Addr().String()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range leftovers {
		eventually(t, "end of every process", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
	if conn, err := net.Dial("tcp", ldap); err == nil {
		conn.Close()
		t.Error("the LDAP port is still open")
	}
	if c.Addr() != "" || c.CAFile() != "" {
		t.Errorf("closed, but at %q with %q", c.Addr(), c.CAFile())
	}
	if err := c.Restart(testContext(t)); err == nil {
		t.Error("restarted after Close")
	}
}

func TestCloseWithoutStart(t *testing.T) {
	t.Parallel()
	var c Cluster
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	one := start(t, &Cluster{})
	two := start(t, &Cluster{
		Host: "it's.other.eu-central-1.rds.amazonaws.com", Port: 6432, Region: "eu-central-1",
		Settings: map[string]string{"application_name": `it's "quoted" \o/`},
	})
	if one.Addr() == two.Addr() {
		t.Fatal("same address")
	}
	mustLogin(t, one, IAMUser, mint(t, signing{}))
	conn := mustLogin(t, two, IAMUser, mint(t, signing{host: two.Host + ":6432", region: two.Region}))
	var name string
	if err := conn.QueryRow(testContext(t), "SHOW application_name").Scan(&name); err != nil || name != two.Settings["application_name"] {
		t.Errorf("setting %q, %v", name, err)
	}
	if err := two.Start(testContext(t)); err == nil {
		t.Error("started twice")
	}
}

// TestStartFails is not parallel: it changes the environment.
func TestStartFails(t *testing.T) {
	start(t, new(Cluster)) // makes the template, which must stay
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)

	c := Cluster{Settings: map[string]string{"no_such_setting": "1"}}
	err = c.Start(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error without the log, or with lines: %v", err)
	}
	canceled, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := new(Cluster).Start(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	t.Setenv("PG_BINDIR", filepath.Join(dir, "none"))
	if err := new(Cluster).Start(testContext(t)); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestUnreachableTempDir has a TMPDIR that the server's user cannot reach, or whose path is
// too long for a socket.
func TestUnreachableTempDir(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	c := start(t, &Cluster{})
	mustLogin(t, c, IAMUser, mint(t, signing{}))
}

func TestListenPort(t *testing.T) {
	t.Parallel()
	port, err := freePort(0)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, &Cluster{ListenPort: port})
	if want := net.JoinHostPort(loopback, strconv.Itoa(port)); c.Addr() != want {
		t.Errorf("listens at %s, not at %s", c.Addr(), want)
	}
	mustLogin(t, c, IAMUser, mint(t, signing{})).Close(testContext(t))

	second := &Cluster{ListenPort: port}
	if err := second.Start(testContext(t)); !errors.Is(err, errAddressInUse) {
		t.Errorf("a second one on the same port: %v", err)
	}
}
