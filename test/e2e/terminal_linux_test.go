package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// terminal is a process with a controlling terminal.
type terminal struct {
	t      testing.TB
	cmd    *exec.Cmd
	keys   *os.File
	exited chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// startOnTerminal starts the binary on a terminal with 80 columns.
func startOnTerminal(t testing.TB, env []string, args ...string) *terminal {
	t.Helper()
	return startProgramOnTerminal(t, env, binaryPath(t), args...)
}

func startProgramOnTerminal(t testing.TB, env []string, program string, args ...string) *terminal {
	t.Helper()
	// os.OpenFile would make it non-blocking, which the ioctls undo.
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := controlTerminal(keys)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	term := &terminal{t: t, cmd: exec.Command(program, args...), keys: keys, exited: make(chan struct{})}
	term.cmd.Env = env
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = screen, screen, screen
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(term, keys) }()
	go func() {
		_ = term.cmd.Wait()
		close(term.exited)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		_ = keys.Close()
		keep(t, "the terminal", term.text())
		if t.Failed() {
			t.Logf("the terminal:\n%s", term.text())
		}
	})
	return term
}

// controlTerminal unlocks a terminal, and returns its number.
func controlTerminal(keys *os.File) (number uint32, err error) {
	raw, err := keys.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if failed == nil {
			number, failed = unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
		}
		failed = errors.Join(failed, unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	})
	return number, errors.Join(err, failed)
}

func (term *terminal) Write(b []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.Write(b)
}

// text returns what the terminal shows.
func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.out.String(), "\r\n", "\n")
}

func (term *terminal) await(pattern string) []string {
	term.t.Helper()
	var match []string
	until(term.t, pattern, func() bool {
		match = regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(term.text())
		return match != nil
	})
	return match
}

func (term *terminal) press(key string) {
	term.t.Helper()
	if _, err := io.WriteString(term.keys, key); err != nil {
		term.t.Error(err)
	}
}

func (term *terminal) expectExit(code int) {
	term.t.Helper()
	<-term.exited
	if got := term.cmd.ProcessState.ExitCode(); got != code {
		term.t.Errorf("exit code %d, want %d", got, code)
	}
}

const ctrlC = "\x03"

// sgr matches the sequences of ECMA-48 for colors.
var sgr = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// A developer's terminal shows how to connect, the endpoint and the signer; a line for each
// session and refusal; and at Ctrl-C what it waits for. Names of clients contain no escape
// sequences.
func TestTerminal(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}})
	env := append(bareEnvironment("TERM=xterm", "AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts"), s.janes()...)
	args := []string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile(),
		"--admin=127.0.0.1:0", "--assume-role=" + appRole, "--database=" + aurora.Database}
	term := startOnTerminal(t, env, args...)
	term.await(`^Ready\. Ctrl-C to stop\.$`)
	banner := term.await(`\Aiamproxy dev
  psql "host=127.0.0.1 port=(\d+) user=USER dbname=` + aurora.Database + `"
       -> ` + aurora.DefaultHost + ` \(writer, eu-west-1, via ` + cluster.Addr() + `\)
  status page  (http://127\.0\.0\.1:\d+/)
  signing as   arn:aws:sts::\d+:assumed-role/app/\S+   \(.+, until \d\d:\d\d\)
Ready`)
	conninfo := "host=localhost port=" + banner[1] + " sslmode=disable user="
	connect := func(user, application string) *pgx.Conn {
		config, err := pgx.ParseConfig(conninfo + user)
		if err != nil {
			t.Fatal(err)
		}
		config.RuntimeParams["application_name"] = application
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	const who = `^(?:\x1b\[2m)?\d\d:\d\d:\d\d(?:\x1b\[m)?  ` + aurora.IAMUser + "@" + aurora.Database + ` +\x1b\[\d+m`
	connect(aurora.IAMUser, "orders-1")
	connect(aurora.IAMUser, "orders-2\x1b]0;owned\x07\u202e")
	term.await(who + `connected   \x1b\[m  orders-1, 127\.0\.0\.1:\d+, [\d.]+ m?s$`)
	term.await(`  orders-2 \]0;owned, 127`)
	closing := connect(aurora.IAMUser, "short")
	if err := closing.Close(t.Context()); err != nil {
		t.Error(err)
	}
	term.await(who + `disconnected\x1b\[m  after [\d.]+ m?s, [\d.]+ k?B up, [\d.]+ k?B down$`)
	if _, err := pgx.Connect(t.Context(), conninfo+aurora.PlainUser); err == nil {
		t.Error("a user without rds_iam logged in")
	}
	term.await(`  ` + aurora.PlainUser + `@` + aurora.Database + ` +\x1b\[31mrefused     \x1b\[m  .+ -> iamproxy check ` + aurora.DefaultHost + ` --user ` + aurora.PlainUser + ` .+$`)

	shutdown := startOnTerminal(t, env, "shutdown", "--admin="+strings.Trim(strings.TrimPrefix(banner[2], "http:"), "/"))
	shutdown.await(`\Adraining, 2 sessions open$`)
	shutdown.expectExit(0)
	term.await(`^Waiting for 2 sessions \(` + aurora.IAMUser + `: orders-1, orders-2 \]0;owned *\), 25 s at most\. Press Ctrl-C again to close them now\.$`)
	term.press(ctrlC)
	term.expectExit(0)
	term.await(`^stopped; closed 2 sessions still open$`)
	if rest := sgr.ReplaceAllString(term.text(), ""); strings.ContainsAny(rest, "\x1b\u202e{") {
		t.Errorf("escape sequences or JSON: %q", rest)
	}
}

// check wraps texts between words, below each other. Command lines stay whole.
func TestReportCheckOnTerminal(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	c := newCheckTest(t, cluster, policiesOf(cluster))
	term := startOnTerminal(t, append(c.env, "TERM=xterm"), append([]string{"check", "--user=nobody"}, c.args...)...)
	term.expectExit(1)
	term.await(`^do this next:\n(?:# .*\n)+iamproxy grant .*\nmore: https://.*#password_requested\n\z`)
	lines := strings.Split(strings.TrimSpace(sgr.ReplaceAllString(term.text(), "")), "\n")
	lines = lines[:len(lines)-1]
	commands := 0
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) > 0 && (words[0] == "iamproxy" || words[0] == "aws") {
			commands++
			continue
		}
		if len(line) > 80 && !strings.HasPrefix(words[len(words)-1], "arn:") { // longer than its column
			t.Errorf("longer than the terminal: %s", line)
		}
	}
	last := lines[len(lines)-1]
	if commands != 3 || !strings.HasPrefix(last, "iamproxy grant "+aurora.DefaultHost+" --user nobody ") || !strings.HasPrefix(lines[len(lines)-2], "# ") {
		t.Errorf("%d commands, and the last is %s:\n%s", commands, last, strings.Join(lines, "\n"))
	}
}

// Without credentials the terminal shows what to do. NO_COLOR and TERM=dumb switch colors off.
func TestTerminalNotReady(t *testing.T) {
	t.Parallel()
	for variable, level := range map[string]string{"NO_COLOR=1": "info", "TERM=dumb": "warn"} {
		term := startOnTerminal(t, bareEnvironment("TERM=xterm", variable), aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=off", "--log-level="+level)
		term.await(`^Not ready: .*no AWS credentials.*\n  -> .+$`)
		term.press(ctrlC)
		term.expectExit(0)
		if strings.Contains(term.text(), "\x1b") {
			t.Errorf("%s: colors: %q", variable, term.text())
		}
	}
}

func TestTerminalWait(t *testing.T) {
	t.Parallel()
	term := startOnTerminal(t, bareEnvironment(), "wait", "--admin=127.0.0.1:1", "--timeout=250ms")
	term.expectExit(1)
	term.await(`\Awaiting for iamproxy at 127\.0\.0\.1:1 \(nothing is listening there\)
iamproxy: nothing is listening on 127\.0\.0\.1:1: iamproxy is not running, or has another --admin\n\z`)
}

// SIGHUP has nothing to reload. It drains a process whose terminal is gone, and leaves others
// alone, as SIGUSR1 and SIGUSR2 do.
func TestReportSIGHUP(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for name, program := range map[string][]string{"detached": {"setsid"}, "nohup": {"setsid", "nohup"}} {
		cmd := exec.Command(program[0], append(append(program[1:], binaryPath(t)), clusterArgs(cluster)...)...)
		cmd.Env = keyEnvironment(aurora.DefaultKey)
		p := startCommand(t, cmd, 1)
		conn, err := p.connect(ctx, aurora.IAMUser, aurora.Database)
		if err != nil {
			t.Fatal(err)
		}
		for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
			p.signal(signal)
			if name == "detached" || signal != syscall.SIGHUP {
				until(t, "a line about "+signal.String(), func() bool { return strings.Contains(p.logs(), `"signal":"`+signal.String()+`"`) })
			}
		}
		mustExec(t, conn, "select 1")
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
		_ = conn.Close(ctx)
	}

	term := startOnTerminal(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--log-level=info", "--drain-max=10m")...)
	port := term.await(`port=(\d+) `)[1]
	conn, err := pgx.Connect(ctx, "host=localhost sslmode=disable port="+port+" user="+aurora.IAMUser+" dbname="+aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = term.cmd.Process.Signal(syscall.SIGHUP)
		term.await(`^Waiting for 1 session`)
	}
	mustExec(t, conn, "select 1")
	_ = conn.Close(ctx)
	term.expectExit(0)
}
