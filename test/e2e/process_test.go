//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// These tests run the binary as a process, against a PostgreSQL that verifies tokens, with
// common clients.

// limit bounds every wait. It expires only in a test that fails.
const limit = 60 * time.Second

var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "iamproxy-test-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "home"), 0o700)); err != nil {
		return "", err
	}
	if err := openSources(); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "iamproxy")
	race := "-race=" + strconv.FormatBool(raceEnabled())
	out, err := exec.Command("go", "build", race, "-buildvcs=false", "-ldflags", "-X main.version=dev", "-o", file, "../../cmd/iamproxy").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return file, nil
})

// openSources opens the directories that the binary is built from. A cached result of the
// tests is valid for the files that they opened, which does not include those of go build.
func openSources() error {
	const ours = `{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}`
	out, err := exec.Command("go", "list", "-deps", "-f", ours, "../../cmd/iamproxy").Output()
	if err != nil {
		return err
	}
	for dir := range strings.Lines(string(out)) {
		if _, err := os.ReadDir(strings.TrimSpace(dir)); err != nil {
			return err
		}
	}
	return nil
}

// raceEnabled reports whether the tests were built with the race detector. The binary is
// built alike.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := kept.keepFiles(emptyHome()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	for _, found := range kept.report() {
		fmt.Fprintln(os.Stderr, "a secret was seen:", found)
		code = 1
	}
	if file, err := buildBinary(); err == nil {
		os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code) //nolint:forbidigo // the way of a TestMain
}

func binaryPath(t testing.TB) string {
	t.Helper()
	file, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func startCluster(t testing.TB, cluster *aurora.Cluster) *aurora.Cluster {
	t.Helper()
	cluster.Given = noteToken
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// process is a running iamproxy.
type process struct {
	t       testing.TB
	cmd     *exec.Cmd
	stderr  io.ReadCloser
	exited  chan struct{}
	listens []string   // addresses, in the order of the endpoints
	reading sync.Mutex // held while the log is not read

	listening chan string // the addresses, as they are logged

	mu  sync.Mutex
	log []string
}

// keyEnvironment returns an environment with key as the only credentials.
func keyEnvironment(key sigv4.Key) []string {
	env := bareEnvironment("AWS_ACCESS_KEY_ID="+key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+key.SecretAccessKey)
	if key.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+key.SessionToken)
	}
	return env
}

// emptyHome returns the directory for $HOME and temporary files, in which nothing may be
// left.
func emptyHome() string {
	file, _ := buildBinary()
	return filepath.Join(filepath.Dir(file), "home")
}

// bareEnvironment returns an environment without variables of AWS, libpq and iamproxy but
// those given.
func bareEnvironment(more ...string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + emptyHome(), "TMPDIR=" + emptyHome(),
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_ENDPOINT_URL_STS=http://127.0.0.1:1", // the caller's identity is not looked up
		"GORACE=atexit_sleep_ms=0",                // the race detector delays the exit by a second
	}
	return append(env, more...)
}

// clusterArgs returns arguments for a proxy to the stand-in, on a free port.
func clusterArgs(cluster *aurora.Cluster, more ...string) []string {
	args := []string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile(), "--admin=127.0.0.1:0", "--log-level=debug"}
	return append(args, more...)
}

// startProxy starts the binary and waits until it listens. After the test, it must exit
// with 0 on SIGTERM.
func startProxy(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(binaryPath(t), args...)
	cmd.Env = env
	return startCommand(t, cmd, countEndpoints(args))
}

// startCommand is startProxy for a command that runs the binary.
func startCommand(t testing.TB, cmd *exec.Cmd, endpoints int) *process {
	t.Helper()
	p := launch(t, cmd)
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 && !p.killed() {
			t.Errorf("iamproxy ended with %d", code)
		}
		p.checkLog()
	})
	p.awaitListening(endpoints)
	return p
}

// launch starts the binary. It may exit with any code.
func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, listening: make(chan string, 10), exited: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stderr = stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(stderr)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.wait()
		keep(t, "the log", p.logs())
		if t.Failed() {
			t.Logf("iamproxy's log:\n%s", p.logs())
		}
	})
	return p
}

func (p *process) awaitListening(endpoints int) {
	p.t.Helper()
	for range endpoints {
		select {
		case address := <-p.listening:
			p.listens = append(p.listens, address)
		case <-p.exited:
			p.t.Fatalf("iamproxy ended: %s", p.logs())
		case <-time.After(limit):
			p.t.Fatalf("iamproxy does not listen: %s", p.logs())
		}
	}
}

func countEndpoints(args []string) (n int) {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "--") && arg != "run" {
			n++
		}
	}
	return n
}

func (p *process) follow(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.reading.Lock()
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		p.mu.Unlock()
		p.reading.Unlock()
		var entry struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			p.listening <- entry.Listen
		}
	}
	_ = p.cmd.Wait()
	close(p.exited)
}

func (p *process) logs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// stopReading stops reading the log until the returned function is called.
func (p *process) stopReading() (resume func()) {
	p.reading.Lock()
	return sync.OnceFunc(p.reading.Unlock)
}

func (p *process) signal(signal os.Signal) { _ = p.cmd.Process.Signal(signal) }

func (p *process) wait() (code int) {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("iamproxy does not end: %s", p.logs())
		return -1
	}
}

// killed reports whether it ended by SIGKILL.
func (p *process) killed() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// checkLog fails the test if a line of the log is not JSON or has a query in it.
func (p *process) checkLog() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.log {
		if !json.Valid([]byte(line)) {
			p.t.Errorf("not a line of JSON in the log: %s", line)
		}
		for _, query := range []string{"select ", "pg_sleep"} {
			if strings.Contains(line, query) {
				p.t.Errorf("%q in the log: %s", query, line)
			}
		}
	}
}

// countClientWarnings counts the warnings about clients. At the start there is one that STS
// cannot be reached at AWS_ENDPOINT_URL_STS.
func countClientWarnings(p *process) (n int) {
	for line := range strings.Lines(p.logs()) {
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, `"client":`) {
			n++
		}
	}
	return n
}

// admin returns the address of the admin server.
func (p *process) admin() (address string) {
	p.t.Helper()
	until(p.t, "the admin server", func() bool {
		for _, line := range strings.Split(p.logs(), "\n") {
			var entry struct{ Admin string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Admin != "" {
				address = strings.Trim(strings.TrimPrefix(entry.Admin, "http:"), "/")
			}
		}
		return address != ""
	})
	return address
}

// get sends a request to the admin server.
func (p *process) get(path string) (status int, body string) {
	p.t.Helper()
	response, err := http.Get("http://" + p.admin() + path)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Error(err)
	}
	keep(p.t, path, string(b))
	return response.StatusCode, string(b)
}

// command runs another command of the binary with the admin server of this process.
func (p *process) command(args ...string) (output string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := client(ctx, binaryPath(p.t), append(args, "--admin="+p.admin())...)
	out, _ := combinedOutput(p.t, cmd)
	return strings.TrimSpace(string(out)), cmd.ProcessState.ExitCode()
}

// port returns the port of the first endpoint.
func (p *process) port() string {
	_, port, _ := net.SplitHostPort(p.listens[0])
	return port
}

// client returns a command for a program that connects without a password.
func client(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = bareEnvironment("PGPASSFILE=/nonexistent", "PGCONNECT_TIMEOUT=30", "LC_ALL=C")
	return cmd
}

func (p *process) conninfo(user, database string) string {
	return "host=127.0.0.1 port=" + p.port() + " user=" + user + " dbname=" + database
}

// psql runs statements and returns the output.
func (p *process) psql(user, database string, statements ...string) (string, error) {
	p.t.Helper()
	args := []string{"-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", p.conninfo(user, database)}
	for _, statement := range statements {
		args = append(args, "-c", statement)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := combinedOutput(p.t, client(ctx, "psql", args...))
	return strings.TrimSpace(string(out)), err
}

func (p *process) mustPSQL(user, database string, statements ...string) string {
	p.t.Helper()
	out, err := p.psql(user, database, statements...)
	if err != nil {
		p.t.Fatalf("psql: %v: %s", err, out)
	}
	return out
}

// until waits for a condition.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// psqlAt runs one statement through a connection string, and returns the output.
func psqlAt(t testing.TB, conninfo, statement string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := combinedOutput(t, client(ctx, "psql", "-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", conninfo, "-c", statement))
	return strings.TrimSpace(string(out)), err
}
