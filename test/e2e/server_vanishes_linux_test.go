package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// A server whose machine is gone answers nothing, not even with a reset. Sessions end all
// the same, idle or not, and their clients are disconnected.
func TestServerVanishes(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	network := newNetwork(t)
	address := network.forward(t, cluster.Addr())
	cmd := network.command(binaryPath(t), aurora.DefaultHost, "--listen=unix:"+t.TempDir(), "--via="+address, "--ca-file="+cluster.CAFile())
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	p := startCommand(t, cmd, 1)

	idle, busy := startRaw(t, p, protocol30, nil), startRaw(t, p, protocol30, nil)
	busy.send(&pgproto3.Query{String: "select pg_sleep(600)"})
	network.cut(t)
	asking := time.Now()
	for name, session := range map[string]*rawSession{"idle": idle, "busy": busy} {
		_ = session.conn.SetDeadline(time.Now().Add(limit))
		if _, err := session.frontend.Receive(); err == nil || os.IsTimeout(err) {
			t.Errorf("the %s session goes on: %v", name, err)
		}
		t.Logf("the %s session ended after %v", name, time.Since(asking).Round(time.Second))
	}
	until(t, "the log", func() bool { return strings.Count(p.logs(), `"by":"server","how":"vanished"`) == 2 })
}

// network is a network namespace, used as another host, with a virtual cable to this one.
type network struct {
	pid         string // of the process that keeps it
	here, there string // addresses
}

// cable returns the names of its ends, at most 15 bytes long.
func (n *network) cable() (near, far string) { return "iam" + n.pid + "a", "iam" + n.pid + "b" }

// newNetwork makes one, which ends with the process that keeps it. The addresses are for
// benchmarks (RFC 2544), and free to use.
func newNetwork(t *testing.T) *network {
	t.Helper()
	keeper := exec.Command("unshare", "--net", "sh", "-c", "echo made; exec sleep infinity")
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
	if _, err := io.ReadFull(out, make([]byte, len("made"))); err != nil {
		t.Skip("this account, or root of this container, makes no network namespaces")
	}
	pid := keeper.Process.Pid
	subnet := "198.18." + strconv.Itoa(pid%256) + "."
	n := &network{pid: strconv.Itoa(pid), here: subnet + "1", there: subnet + "2"}
	near, far := n.cable()
	mustRun(t, exec.Command("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", n.pid))
	mustRun(t, exec.Command("ip", "address", "add", n.here+"/30", "dev", near))
	mustRun(t, exec.Command("ip", "link", "set", near, "up"))
	mustRun(t, n.command("ip", "address", "add", n.there+"/30", "dev", far))
	mustRun(t, n.command("ip", "link", "set", far, "up"))
	mustRun(t, n.command("ip", "link", "set", "lo", "up"))
	return n
}

func mustRun(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
}

// command returns a command that runs on the other host.
func (n *network) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", n.pid, "--net"}, args...)...)
}

// forward forwards an address of this host, which the other host reaches, to target.
func (n *network) forward(t *testing.T, target string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", n.here+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go acceptForwarded(listener, target)
	return listener.Addr().String()
}

// cut drops all packets between the hosts.
func (n *network) cut(t *testing.T) {
	t.Helper()
	const nobody = "02:00:00:00:00:01"
	near, far := n.cable()
	mustRun(t, n.command("ip", "neighbour", "replace", n.here, "lladdr", nobody, "dev", far, "nud", "permanent"))
	mustRun(t, exec.Command("ip", "neighbour", "replace", n.there, "lladdr", nobody, "dev", near, "nud", "permanent"))
}
