//go:build linux

package check

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is the timeout for each step; on an idle machine a step takes milliseconds.
const patience = 30 * time.Second

// process is an iamproxy that was started as systemd does.
type process struct {
	cmd    *exec.Cmd
	notify *net.UnixConn
	log    bytes.Buffer
}

// start runs the command of a unit with further arguments, which override those of the unit, and
// passes it a socket unless that is nil. It returns when the process is ready.
func start(t *testing.T, unit, instance string, env []string, socket *os.File, args ...string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() })
	command := strings.Fields(strings.ReplaceAll(setting(t, unit, "ExecStart"), "%i", instance))
	if command[0] != "iamproxy" {
		t.Fatalf("%s runs %s", unit, command[0])
	}
	p := &process{notify: notify}
	// LISTEN_PID is that of the process itself, which only it knows before it runs.
	p.cmd = exec.Command("sh", append([]string{"-c", `[ -z "${LISTEN_FDS-}" ] || export LISTEN_PID=$$; exec "$@"`, "sh", program}, append(command[1:], args...)...)...)
	if file := setting(t, unit, "EnvironmentFile"); file != "/etc/iamproxy/env" {
		t.Fatalf("%s reads %s", unit, file)
	}
	p.cmd.Env = append(env, "NOTIFY_SOCKET="+path)
	if socket != nil {
		p.cmd.ExtraFiles = []*os.File{socket}
		p.cmd.Env = append(p.cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=iamproxy.socket")
	}
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.waitFor(t, "READY=1")
	return p
}

// waitFor reads the messages to systemd until state is among them.
func (p *process) waitFor(t *testing.T, state string) {
	t.Helper()
	p.notify.SetReadDeadline(time.Now().Add(patience))
	message := make([]byte, 4096)
	for {
		n, err := p.notify.Read(message)
		if err != nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait() // the log is whole then
			t.Fatalf("it did not report %s: %v: %s", state, err, &p.log)
		}
		for line := range strings.Lines(string(message[:n])) {
			if strings.TrimSpace(line) == state {
				return
			}
		}
	}
}

// stop sends SIGTERM, as systemd does, and waits for the exit.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.waitFor(t, "STOPPING=1")
	overdue := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer overdue.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it exited with %v: %s", err, &p.log)
	}
}

// environment returns the variables of env.example, and credentials.
func environment(t *testing.T, text string) []string {
	t.Helper()
	env := []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent"}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			env = append(env, line)
		}
	}
	return env
}

func example(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../env.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestItStartsAndStops(t *testing.T) {
	// With the commented options, too, except for the role: assuming it would need AWS.
	proposed := strings.ReplaceAll(example(t), "\n#IAMPROXY_", "\nIAMPROXY_")
	all := environment(t, proposed)
	env := environment(t, strings.ReplaceAll(proposed, "\nIAMPROXY_ASSUME_ROLE=", "\n#"))
	if len(env) != len(all)-1 || len(all) < 9 {
		t.Fatalf("env.example has %q", all)
	}
	for _, unit := range []string{"iamproxy.service", "iamproxy@.service"} {
		t.Run(unit, func(t *testing.T) {
			start(t, unit, "0", env, nil, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0").stop(t)
		})
	}
	// Every command validates the names of all variables.
	cmd := exec.Command(program, "version")
	cmd.Env = all
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// TestNoClientIsRefused connects clients one after the other while the processes take turns, as
// iamproxy-restart does it.
func TestNoClientIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket := shared(t, listener.(*net.TCPListener))
	address := listener.Addr().String()
	database := plainServer(t)
	begin := func(instance string) *process {
		return start(t, "iamproxy@.service", instance, environment(t, example(t)), socket,
			"--listen", address, "--admin", "127.0.0.1:0", "--via", database, "--target", "any")
	}

	old := begin("0")
	var clients sync.WaitGroup
	done := make(chan struct{})
	var mutex sync.Mutex
	answers := map[string]int{}
	for range 4 {
		clients.Go(func() {
			for {
				answer, err := login(address)
				if err != nil {
					answer = err.Error()
				}
				mutex.Lock()
				answers[answer]++
				mutex.Unlock()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for turn := range 4 {
		next := begin(fmt.Sprint((turn + 1) % 2))
		old.stop(t)
		old = next
	}
	close(done)
	clients.Wait()
	old.stop(t)
	if len(answers) != 1 || answers["08001"] == 0 {
		t.Errorf("clients got %v, want only 08001, since the database has no TLS", answers)
	}
}

// shared returns the socket as systemd passes it with NonBlocking=true. The listener's File
// method would make it blocking in all processes.
func shared(t *testing.T, listener *net.TCPListener) *os.File {
	t.Helper()
	if setting(t, "iamproxy@.service", "NonBlocking") != "true" {
		t.Fatal("iamproxy@.service gets blocking sockets")
	}
	conn, err := listener.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if failed := conn.Control(func(own uintptr) {
		if fd, err = syscall.Dup(int(own)); err == nil {
			syscall.CloseOnExec(fd)
		}
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	socket := os.NewFile(uintptr(fd), "iamproxy.socket")
	t.Cleanup(func() { socket.Close() })
	return socket
}

// plainServer starts a database without TLS. iamproxy rejects each client with 08001 at once.
func plainServer(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil { // its SSLRequest
					_, _ = conn.Write([]byte("N"))
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// login requests a session, and returns the SQLSTATE of the error.
func login(address string) (sqlstate string, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	parameters := "user\x00app\x00database\x00app\x00\x00"
	startup := binary.BigEndian.AppendUint32(nil, uint32(8+len(parameters)))
	startup = binary.BigEndian.AppendUint32(startup, 3<<16)
	if _, err := conn.Write(append(startup, parameters...)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return "", err
	}
	if len(answer) < 5 || answer[0] != 'E' {
		return "", fmt.Errorf("%q is no error", answer)
	}
	for field := range strings.SplitSeq(string(answer[5:]), "\x00") {
		if code, ok := strings.CutPrefix(field, "C"); ok {
			return code, nil
		}
	}
	return "", fmt.Errorf("%q has no SQLSTATE", answer)
}
