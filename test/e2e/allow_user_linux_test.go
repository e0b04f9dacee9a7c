package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// psqlAs runs psql as a user of this host.
func psqlAs(t *testing.T, uid uint32, conninfo string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := client(ctx, "psql", "-X", "-w", "-A", "-t", conninfo, "-c", "select 41 + 1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := combinedOutput(t, cmd)
	return strings.TrimSpace(string(out)), err
}

// --allow-user restricts clients on TCP and unix sockets.
func TestAllowUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	const daemon, nobody, stranger = 1, 65534, 4321 // the first two have names
	cluster := startCluster(t, &aurora.Cluster{})
	dir, err := os.MkdirTemp("", "iamproxy-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := aurora.DefaultHost + "?listen=unix:" + filepath.Join(dir, ".s.PGSQL.5432")
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append([]string{socket}, clusterArgs(cluster, "--allow-user=daemon,65534", "--socket-mode=0666")...)...)
	p.listens[0], p.listens[1] = p.listens[1], p.listens[0]
	before := p.descriptors() + loopDescriptors
	for where, conninfo := range map[string]string{
		"TCP":  p.conninfo(aurora.IAMUser, aurora.Database),
		"unix": "host=" + dir + " user=" + aurora.IAMUser + " dbname=" + aurora.Database,
	} {
		for _, uid := range []uint32{daemon, nobody} {
			if out, err := psqlAs(t, uid, conninfo); err != nil || out != "42" {
				t.Errorf("%s: user %d: %v: %s", where, uid, err, out)
			}
		}
		for uid, want := range map[uint32]string{stranger: "connections from processes of user 4321 are not allowed", 0: "connections from processes of user 0 are not allowed"} {
			out, err := psqlAs(t, uid, conninfo)
			if err == nil || !strings.Contains(out, want) || !strings.Contains(out, "add it to --allow-user") {
				t.Errorf("%s: user %d: %v: %s", where, uid, err, out)
			}
		}
	}
	// A client that has disconnected has no user, and does not count as root.
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { dial(t, p.listens[0]).Close() })
	}
	all.Wait()
	until(t, "them to be gone", func() bool { return p.descriptors() <= before })
	for _, verdict := range cluster.Verdicts() {
		if !verdict.OK {
			t.Errorf("verdict %+v", verdict)
		}
	}
	if n := len(cluster.Verdicts()); n != 4 {
		t.Errorf("%d logins, of which 4 were allowed", n)
	}
}
