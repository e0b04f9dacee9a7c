//go:build unix

package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// A transaction that is open at the signal can commit. The process exits with 0 as soon as
// the session ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	for name, end := range map[string]func(p *process){
		"SIGTERM": func(p *process) { p.signal(syscall.SIGTERM) },
		"SIGINT":  func(p *process) { p.signal(syscall.SIGINT) },
		"iamproxy shutdown": func(p *process) {
			if out, code := p.command("shutdown"); code != 0 || out != "" {
				t.Errorf("shutdown ended with %d: %s", code, out)
			}
		},
		"POST": func(p *process) {
			response, err := http.Post("http://"+p.admin()+"/shutdown", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusAccepted {
				t.Errorf("POST /shutdown: %s", response.Status)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--drain-max=1m")...)
			if out, code := p.command("wait"); code != 0 {
				t.Errorf("wait before: %d: %s", code, out)
			}
			conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
			if err != nil {
				t.Fatal(err)
			}
			table := "drained_" + strings.ToLower(strings.NewReplacer(" ", "_").Replace(name))
			mustExec(t, conn, "begin")
			mustExec(t, conn, "create temp table "+table+" on commit drop as select 1")
			end(p)
			until(t, "not to be ready", func() bool { status, _ := p.get("/readyz"); return status == http.StatusServiceUnavailable })
			if _, body := p.get("/readyz"); !strings.Contains(body, "draining") {
				t.Errorf("readyz says %q", body)
			}
			if status, body := p.get("/livez"); status != http.StatusOK {
				t.Errorf("livez says %d %q", status, body)
			}
			if out, code := p.command("wait", "--timeout=300ms"); code != 1 || !strings.Contains(out, "draining") {
				t.Errorf("wait while it drains: %d: %s", code, out)
			}
			expectRefusal(t, p, aurora.IAMUser, aurora.Database, "shutting down")
			mustExec(t, conn, "commit")
			select {
			case <-p.exited:
				t.Error("it ended before its last session")
			default:
			}
			_ = conn.Close(t.Context())
			began := time.Now()
			if code := p.wait(); code != 0 || time.Since(began) > 20*time.Second {
				t.Errorf("ended with %d, %v after its last session", code, time.Since(began))
			}
			if !strings.Contains(p.logs(), `"sessions_cut":0`) {
				t.Error("a session was cut")
			}
		})
	}
}

// During --drain-min the process runs on and accepts clients, even if no session is open.
func TestDrainMin(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--drain-min=3s", "--drain-max=1m")...)
	p.admin()
	p.signal(syscall.SIGTERM)
	until(t, "not to be ready", func() bool { status, _ := p.get("/readyz"); return status == http.StatusServiceUnavailable })
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	late, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "new clients to be turned away", func() bool {
		conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		var said *pgconn.PgError
		return errors.As(err, &said) && said.Code == "57P03"
	})
	mustExec(t, late, "select 1")
	_ = late.Close(t.Context())
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// Sessions that are open at --drain-max are closed: the client reads the end, and no byte
// before it.
func TestDrainMax(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--drain-max=200ms")...)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "begin")
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Conn.Close()
	p.signal(syscall.SIGTERM)
	_ = raw.Conn.SetDeadline(time.Now().Add(limit))
	rest, err := io.ReadAll(raw.Conn)
	if err != nil || len(rest) > 0 {
		t.Errorf("the client read %q, %v", rest, err)
	}
	if code := p.wait(); code != 0 || !strings.Contains(p.logs(), `"sessions_cut":1`) {
		t.Errorf("ended with %d", code)
	}
	admin := connectAdmin(t, cluster)
	until(t, "the server's process to end", func() bool {
		return show(t, admin, "select count(*) from pg_stat_activity where usename = '"+aurora.IAMUser+"'") == "0"
	})
}

// A shutdown request followed by a signal counts as one, since platforms send the signal
// anyway.
func TestShutdownAndSignal(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--drain-max=10m")...)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, code := p.command("shutdown"); code != 0 {
			t.Errorf("shutdown: %d: %s", code, out)
		}
	}
	until(t, "draining", func() bool { return strings.Contains(p.logs(), `"msg":"draining`) })
	p.signal(syscall.SIGTERM)
	expectRefusal(t, p, aurora.IAMUser, aurora.Database, "shutting down")
	mustExec(t, conn, "select 1")
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 || !strings.Contains(p.logs(), `"sessions_cut":1`) {
		t.Errorf("ended with %d", code)
	}
}

// The process can be ended even if its log is not read.
func TestSecondSignalWithAStuckLog(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	full := int(writer.Fd())
	if err := syscall.SetNonblock(full, true); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = syscall.Write(full, make([]byte, 4096))
	}
	if err := syscall.SetNonblock(full, false); err != nil {
		t.Fatal(err)
	}
	address := conntest.FreeAddress(t)
	cmd := exec.Command(binaryPath(t), aurora.DefaultHost, "--listen="+address, "--admin=off")
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	until(t, "it to listen", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	deadline := time.After(limit)
	for {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatal("it does not end")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// A second signal ends it, in --drain-min too.
func TestSecondSignalInDrainMin(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--drain-min=10m", "--drain-max=10m")...)
	p.admin()
	p.signal(syscall.SIGTERM)
	until(t, "draining", func() bool { return strings.Contains(p.logs(), `"msg":"draining`) })
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// wait succeeds once there are credentials to sign with.
func TestWait(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	address := conntest.FreeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	early := client(ctx, binaryPath(t), "wait", "--timeout=60s")
	early.Env = append(early.Env, "IAMPROXY_ADMIN="+address)
	if err := early.Start(); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append(clusterArgs(cluster), "--admin="+address)...)
	if err := early.Wait(); err != nil {
		t.Errorf("wait that began before: %v", err)
	}
	if out, code := p.command("wait"); code != 0 || out != "" {
		t.Errorf("wait: %d: %s", code, out)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	if out, code := p.command("wait", "--timeout=200ms"); code != 1 || !strings.Contains(out, "iamproxy is not running") {
		t.Errorf("wait after: %d: %s", code, out)
	}
}

func TestWaitForCredentials(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, bareEnvironment(), clusterArgs(cluster)...)
	out, code := p.command("wait", "--timeout=1s")
	if code != 1 || !strings.Contains(out, "no AWS credentials") || strings.Contains(out, "\n") {
		t.Errorf("wait without credentials: %d: %s", code, out)
	}
	for path, want := range map[string]int{"/livez": 200, "/startupz": 503, "/readyz": 503} {
		if status, body := p.get(path); status != want {
			t.Errorf("%s says %d: %s", path, status, body)
		}
	}
}

// Readiness does not include the database unless the request has ?upstream.
func TestReadyWithoutDatabase(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	if status, body := p.get("/readyz?upstream"); status != 200 || !strings.Contains(body, aurora.DefaultHost) {
		t.Errorf("readyz?upstream says %d: %s", status, body)
	}
	nowhere := startProxy(t, keyEnvironment(aurora.DefaultKey), append(clusterArgs(cluster), "--via="+conntest.ClosedAddress(t))...)
	if status, body := nowhere.get("/readyz"); status != 200 {
		t.Errorf("readyz says %d: %s", status, body)
	}
	if status, body := nowhere.get("/readyz?upstream"); status != 503 || !strings.Contains(body, "connection refused") || !strings.Contains(body, "Nothing is listening") {
		t.Errorf("readyz?upstream says %d: %s", status, body)
	}
}
