//go:build unix

package e2e

import (
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

const (
	instance = "i-0123456789abcdef0"
	bastion  = "exec:bastion -L {port}:{host}:{dbport} 'a bastion'"
	// awsCLI is AWS's own client of Session Manager, which leaves a plugin behind.
	awsCLI = "exec:aws ssm start-session --target " + instance + " --document-name AWS-StartPortForwardingSessionToRemoteHost " +
		"--parameters host={host},portNumber={dbport},localPortNumber={port} --region eu-west-1"
)

// forwardArgs returns arguments for a proxy that reaches the cluster by a port forward
// only.
func forwardArgs(cluster *aurora.Cluster, via string, more ...string) []string {
	args := []string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=" + via, "--ca-file=" + cluster.CAFile(), "--admin=127.0.0.1:0", "--log-level=debug"}
	return append(args, more...)
}

// From startup to the end: sessions and cancel requests, a forward that dies under them,
// and a drain with a session open.
func TestForwardProgram(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, instance+" eu-west-1")
	p := startProxy(t, f.env, forwardArgs(cluster, awsCLI, "--drain-max=1m")...)
	until(t, "the plugin, which no client has asked for", func() bool { return len(f.living("session-manager-plugin")) == 1 })
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isTLS); out != "t" {
		t.Errorf("psql printed %q", out)
	}
	testCancel(t, cluster, p)
	if status, body := p.get("/readyz?upstream"); status != 200 {
		t.Errorf("readyz says %d: %s", status, body)
	}
	if _, body := p.get("/"); !strings.Contains(body, "exec:aws") {
		t.Error("the status page does not say via what")
	}

	before, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	f.kill("aws")
	until(t, "what it has left behind to go", func() bool { return before.Ping(t.Context()) != nil })
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1"); out != "1" {
		t.Errorf("psql printed %q", out)
	}

	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	expectRefusal(t, p, aurora.IAMUser, aurora.Database, "shutting down")
	mustExec(t, conn, "select 1")
	if n := len(f.living("")); n != 2 {
		t.Errorf("%d processes while a session is open", n)
	}
	_ = conn.Close(t.Context())
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	until(t, "the forward to be gone", func() bool { return len(f.living("")) == 0 })
	if strings.Count(p.logs(), `"text":"Connection accepted`) > 2 { // of two runs
		t.Error("lines are repeated in the log")
	}
}

// Ctrl-C on a terminal sends SIGINT to the whole foreground process group.
func TestForwardCtrlC(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, "")
	cmd := exec.Command(binaryPath(t), forwardArgs(cluster, bastion, "--drain-max=1m")...)
	cmd.Env, cmd.SysProcAttr = f.env, &syscall.SysProcAttr{Setpgid: true}
	p := startCommand(t, cmd, 1)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	until(t, "not to be ready", func() bool { status, _ := p.get("/readyz"); return status == 503 })
	mustExec(t, conn, "select 1")
	_ = conn.Close(t.Context())
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	until(t, "the forward to be gone", func() bool { return len(f.living("")) == 0 })
}

// The forward ends with a killed iamproxy, including the plugin, which the AWS CLI has
// started.
func TestForwardAfterKill(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, instance+" eu-west-1")
	p := startProxy(t, f.env, forwardArgs(cluster, awsCLI)...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if n := len(f.living("")); n != 2 {
		t.Fatalf("%d processes", n)
	}
	p.signal(syscall.SIGKILL)
	p.wait()
	until(t, "the forward to be gone", func() bool { return len(f.living("")) == 0 })
}

// The client receives the program's last line. Logins work again once the program does.
func TestForwardFails(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, instance+" eu-west-1")
	f.behave(t, refuses)
	p := startProxy(t, f.env, forwardArgs(cluster, awsCLI, "--connect-timeout=2s")...)
	refused := p.refused(aurora.IAMUser, aurora.Database)
	if refused.Code != "57P03" || !strings.Contains(refused.Message, "(via exec:aws): port forward exited: exit status 254: "+refusal) ||
		!strings.Contains(refused.Hint, "Check that the command stays in the foreground") {
		t.Errorf("told %s: %s; %s", refused.Code, refused.Message, refused.Hint)
	}
	if status, body := p.get("/readyz?upstream"); status != 503 || !strings.Contains(body, "TargetNotConnected") {
		t.Errorf("readyz says %d: %s", status, body)
	}
	f.behave(t, hangs)
	until(t, "it to be started again", func() bool { return len(f.living("aws")) == 1 })
	refused = p.refused(aurora.IAMUser, aurora.Database)
	if refused.Code != "57P03" || !strings.Contains(refused.Message, "port forward did not answer within") ||
		!strings.Contains(refused.Message, "Starting session with SessionId") || !strings.Contains(refused.Hint, "--connect-timeout") {
		t.Errorf("told %s: %s; %s", refused.Code, refused.Message, refused.Hint)
	}
	f.behave(t, barred)
	f.kill("aws")
	until(t, "the plugin", func() bool { return len(f.living("session-manager-plugin")) == 1 })
	refused = p.refused(aurora.IAMUser, aurora.Database)
	if refused.Code != "57P03" || !strings.Contains(refused.Hint, "Its last output: "+notReached) {
		t.Errorf("told %s: %s; %s", refused.Code, refused.Message, refused.Hint)
	}
	f.behave(t, "")
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
}

// Each endpoint has its own forward. A command in an ENDPOINT is percent-encoded where
// necessary.
func TestForwardTwoEndpoints(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, instance+" eu-west-1")
	p := startProxy(t, append(f.env, "IAMPROXY_VIA="+bastion),
		aurora.DefaultHost+"?via="+url.QueryEscape(awsCLI), aurora.DefaultHost+"?listen=127.0.0.1:0",
		"--listen=127.0.0.1:0", "--ca-file="+cluster.CAFile(), "--admin=127.0.0.1:0")
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	p.listens = p.listens[1:]
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if len(f.living("session-manager-plugin")) != 1 || len(f.living("bastion")) != 1 {
		t.Errorf("there are %v", f.alive)
	}
	if log := p.logs(); !strings.Contains(log, `"exec:bastion"`) || strings.Contains(log, "a bastion") {
		t.Error("the log has not the program's name, or has its arguments")
	}
}

// A forward that starts slowly delays the client.
func TestForwardSlowStart(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, "")
	f.behave(t, late)
	p := startProxy(t, f.env, forwardArgs(cluster, bastion)...)
	began := time.Now()
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The command token does not connect to the database.
func TestTokenStartsNoForward(t *testing.T) {
	t.Parallel()
	f := startForwarders(t, startCluster(t, &aurora.Cluster{}), "")
	cmd := exec.CommandContext(t.Context(), binaryPath(t), "token", aurora.DefaultHost+"?via=exec:bastion {port}", "--user=u")
	cmd.Env = f.env
	if token := tokenOf(t, cmd); !strings.HasPrefix(token, aurora.DefaultHost) {
		t.Errorf("%.40s", token)
	}
	if f.seen != 0 {
		t.Errorf("%d processes were started", f.seen)
	}
}

// Missing programs are reported at startup, in one line.
func TestForwardMissingPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := func(via, want string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binaryPath(t), aurora.DefaultHost, "--via="+via, "--listen=127.0.0.1:0", "--admin=off")
		cmd.Env = append(keyEnvironment(aurora.DefaultKey), "PATH="+dir)
		out, _ := combinedOutput(t, cmd)
		if code := cmd.ProcessState.ExitCode(); code != 2 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), want) || strings.Contains(string(out), "PASSWORD") {
			t.Errorf("%s: ended with %d, printed %s", via, code, out)
		}
	}
	missing("exec:ssh -p PASSWORD {port}", "via exec:ssh: there is no program ssh in PATH")
}
