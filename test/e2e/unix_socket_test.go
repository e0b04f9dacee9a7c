//go:build unix

package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

func TestUnixSocketEndToEnd(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	dir := t.TempDir()
	args := func(more ...string) []string {
		return append([]string{aurora.DefaultHost, aurora.DefaultHost + "?user=" + aurora.OtherUser,
			"--listen=unix:" + dir, "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile()}, more...)
	}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), args()...)
	at := func(port string) string {
		return "host=" + dir + " port=" + port + " user=" + aurora.IAMUser + " dbname=" + aurora.Database
	}
	for port, want := range map[string]string{"5432": aurora.IAMUser, "5433": aurora.OtherUser} {
		if out, err := psqlAt(t, at(port)+" sslmode=require", "select current_user"); err != nil || out != want { // which libpq takes as met
			t.Errorf("port %s: %v: %s", port, err, out)
		}
	}
	info, err := os.Stat(filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if !strings.Contains(p.logs(), `"client":"unix:`+dir) {
		t.Error("the log does not say where the client is")
	}
	testCancelAt(t, cluster, at("5432"))

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if out, err := combinedOutput(t, client(ctx, binaryPath(t), "wait", "--listen=unix:"+dir, "--timeout=5s")); err != nil {
		t.Errorf("wait: %v: %s", err, out)
	}
	second := client(ctx, binaryPath(t), args()...)
	second.Env = keyEnvironment(aurora.DefaultKey)
	out, err := combinedOutput(t, second)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "another process listens there") {
		t.Errorf("a second iamproxy: %v: %s", err, out)
	}
	if out, err := psqlAt(t, at("5432"), "select 1"); err != nil {
		t.Errorf("after that: %s", out)
	}

	// If it is killed, it leaves its sockets, which the next one replaces. Otherwise it
	// removes them.
	p.signal(syscall.SIGKILL)
	<-p.exited
	next := startProxy(t, keyEnvironment(aurora.DefaultKey), args("--socket-mode=0600")...)
	if out, err := psqlAt(t, at("5433"), "select current_user"); err != nil || out != aurora.OtherUser {
		t.Errorf("after a restart: %v: %s", err, out)
	}
	if info, err = os.Stat(filepath.Join(dir, ".s.PGSQL.5432")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	next.signal(syscall.SIGTERM)
	if code := next.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.5432")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}
