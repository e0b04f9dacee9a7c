//go:build linux

package check

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// limit bounds every wait. It expires only in a test that fails.
const limit = time.Minute

// programs are the programs of the tests.
type programs struct {
	emulator string            // AWS's Runtime Interface Emulator
	layer    string            // directory with the unpacked layer
	function map[string]string // directories with the functions, by language
}

// with returns the programs with one more function.
func (p *programs) with(name, dir string) *programs {
	more := *p
	more.function = maps.Clone(p.function)
	more.function[name] = dir
	return &more
}

// commands are the runtimes and the handlers of the functions.
var commands = map[string][]string{
	"go":     {"./function"},
	"node":   {"/usr/bin/node", "./bootstrap.mjs", "index.handler"},
	"python": {"/usr/bin/python3", "./bootstrap.py", "function.handler"},
}

// sandbox is an execution environment in AWS's emulator: its own network, processes and /opt.
type sandbox struct {
	t        *testing.T
	database *database
	network  container.Network
	process  *container.Process
	kill     func()
	client   http.Client
}

// environment describes an execution environment.
type environment struct {
	function string            // a key of commands
	command  []string          // instead of that of function
	env      map[string]string // in addition
	opt      map[string]string // contents of further files, by path in /opt
	bare     bool              // no iamproxy
}

// start starts an execution environment. The emulator initializes it at the first invocation.
func (p *programs) start(t *testing.T, d *database, e environment) *sandbox {
	t.Helper()
	return p.startIn(t, container.NewNetwork(t), d, e)
}

// startIn starts an execution environment in a network.
func (p *programs) startIn(t *testing.T, network container.Network, d *database, e environment) *sandbox {
	t.Helper()
	s := newSandbox(t, network, d)
	opt := t.TempDir()
	if err := os.CopyFS(opt, os.DirFS(p.layer)); err != nil {
		t.Fatal(err)
	}
	if e.bare {
		if err := os.RemoveAll(filepath.Join(opt, "extensions")); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range e.opt {
		if err := os.WriteFile(filepath.Join(opt, path), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := e.command
	if command == nil {
		command = commands[e.function]
	}
	// Lambda's kill of an execution environment: with the emulator, its first process, all end.
	script := `mount -t tmpfs tmpfs /var && mkdir /var/task && mount --bind "$1" /opt && cd "$2" && shift 2 && echo started && exec "$@"`
	args := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh",
		opt, p.function[e.function], p.emulator, "--log-level", "warn"}, command...)
	cmd := s.network.Command(s.environment(e.env), "unshare", args...)
	s.run(cmd)
	return s
}

// newSandbox returns an execution environment that does not run yet.
func newSandbox(t *testing.T, network container.Network, d *database) *sandbox {
	t.Helper()
	s := &sandbox{t: t, database: d, network: network}
	s.client.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return s.dial() }}
	return s
}

// environment returns the variables of the function.
func (s *sandbox) environment(more map[string]string) (env []string) {
	all := map[string]string{
		"PATH":                      "/usr/local/bin:/usr/bin:/bin",
		"TZ":                        ":UTC",
		"AWS_REGION":                aurora.DefaultRegion,
		"AWS_ACCESS_KEY_ID":         aurora.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":     aurora.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN":         aurora.DefaultSessionKey.SessionToken,
		"AWS_EC2_METADATA_DISABLED": "true",
		"IAMPROXY_ENDPOINTS":        aurora.DefaultHost,
		"IAMPROXY_VIA":              s.database.listen(s.t, s.network),
		"IAMPROXY_CA_FILE":          s.database.cluster.CAFile(),
		"PGHOST":                    "localhost",
		"PGUSER":                    aurora.IAMUser,
		"PGDATABASE":                aurora.Database,
	}
	maps.Copy(all, more)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env
}

// run starts the emulator, which prints a line first, and returns when it accepts connections.
func (s *sandbox) run(cmd *exec.Cmd) {
	s.t.Helper()
	s.process = container.StartUntil(s.t, cmd, func(string) bool { return true })
	s.kill = func() { _ = cmd.Process.Kill() }
	deadline := time.Now().Add(limit)
	for {
		conn, err := s.dial()
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the emulator is not up: %s", s.process.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// dial connects to the emulator.
func (s *sandbox) dial() (conn net.Conn, err error) {
	err = s.network.Enter(func() (err error) {
		conn, err = net.Dial("tcp", "127.0.0.1:8080")
		return err
	})
	return conn, err
}

// result is the response of a function.
type result struct {
	Init, Value             string
	Connect                 float64 // milliseconds
	ErrorType, ErrorMessage string
}

// invoke invokes the function, which must succeed.
func (s *sandbox) invoke(event string) result {
	s.t.Helper()
	var r result
	body := s.request(event)
	if err := json.Unmarshal([]byte(body), &r); err != nil || r.ErrorType != "" || r.Init != aurora.IAMUser {
		s.t.Fatalf("invocation: %s\n%s", body, s.process.Log())
	}
	return r
}

// request invokes the function, and returns the response.
func (s *sandbox) request(event string) string {
	s.t.Helper()
	response, err := s.client.Post("http://emulator/2015-03-31/functions/function/invocations", "application/json", strings.NewReader(event))
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.process.Log())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// waitLog waits until the log of the environment contains a text.
func (s *sandbox) waitLog(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(limit); !strings.Contains(s.process.Log(), text); {
		if time.Now().After(deadline) {
			s.t.Fatalf("the log has no %s: %s", text, s.process.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// signal sends a signal to all processes of the execution environment but the emulator.
func (s *sandbox) signal(signal syscall.Signal) {
	s.t.Helper()
	emulator := children(s.t, s.process.PID())
	if len(emulator) != 1 {
		s.t.Fatalf("processes %v instead of the emulator", emulator)
	}
	for queue := children(s.t, emulator[0]); len(queue) > 0; queue = queue[1:] {
		queue = append(queue, children(s.t, queue[0])...)
		if err := syscall.Kill(queue[0], signal); err != nil {
			s.t.Fatal(err)
		}
	}
}

// extension returns the process of iamproxy.
func (s *sandbox) extension() int {
	s.t.Helper()
	for _, pid := range children(s.t, children(s.t, s.process.PID())[0]) {
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && strings.TrimSpace(string(name)) == "iamproxy" {
			return pid
		}
	}
	s.t.Fatalf("iamproxy does not run\n%s", s.process.Log())
	return 0
}

// children returns the child processes of a process.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		list, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(list)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}
