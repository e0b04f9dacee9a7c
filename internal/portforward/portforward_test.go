package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// limit bounds waiting. A test that reaches it fails.
const limit = 30 * time.Second

// start starts a program of main_test.go.
func start(t *testing.T, program string, more ...string) (*Forward, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	f := &Forward{Name: "exec:test", Args: append([]string{os.Args[0], program, Port}, more...), Hint: "Fix it.", Log: zap.New(core)}
	f.Start()
	t.Cleanup(f.Stop)
	return f, logs
}

// greeting connects through f and returns what it reads.
func greeting(t *testing.T, f *Forward, timeout time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	conn, err := f.Dial(ctx, "tcp", "ignored:5432")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(conn)
	return string(b), err
}

// until waits for condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

func TestDialWaits(t *testing.T) {
	f, logs := start(t, "greet-late")
	for range 5 {
		if got, err := greeting(t, f, limit); got != "hello" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
	until(t, "the output", func() bool { return logs.FilterMessage("port forward output").Len() >= 2 })
	if n := logs.FilterField(zap.String("line", "Connection accepted")).Len(); n != 1 {
		t.Errorf("a repeated line was logged %d times", n)
	}
}

// Between two runs, Dial returns how the last run ended.
func TestRestart(t *testing.T) {
	f, logs := start(t, "greet-once")
	ports := map[string]bool{}
	for range 2 {
		until(t, "a greeting", func() bool { got, err := greeting(t, f, limit); return got == "hello" && err == nil })
		ports[f.current().address] = true
		var failed *Error
		until(t, "the end", func() bool { _, err := greeting(t, f, limit); return errors.As(err, &failed) })
		if want := "port forward exited: exit status 3: good bye"; failed.Error() != want || failed.Advice() != "Fix it." || failed.Err != nil {
			t.Errorf("error %+v, want %q", failed, want)
		}
	}
	if len(ports) != 2 {
		t.Error("the second run has the same port")
	}
	until(t, "both ends in the log", func() bool { return logs.FilterMessage("port forward exited, restarting").Len() == 2 })
}

func TestRestartDelayGrows(t *testing.T) {
	t.Parallel()
	f, logs := start(t, "fail", "An error occurred (TargetNotConnected)")
	_, err := greeting(t, f, limit)
	if want := "port forward exited: exit status 254: An error occurred (TargetNotConnected)"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	ends := func() []observer.LoggedEntry {
		return logs.FilterMessage("port forward exited, restarting").All()
	}
	until(t, "three ends", func() bool { return len(ends()) == 3 })
	for i, want := range []float64{0.5, 1, 2} {
		if got := ends()[i].ContextMap()["restart_in_s"]; got != want {
			t.Errorf("delay %d is %v, want %v", i, got, want)
		}
	}
}

func TestDialTimeout(t *testing.T) {
	f, _ := start(t, "silent")
	until(t, "a first line", func() bool { return f.current().output.lastLine() != "" })
	_, err := greeting(t, f, 120*time.Millisecond)
	var failed *Error
	if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || failed.Hint != "Fix it." ||
		failed.Error() != "port forward did not answer within 100ms; its last output: Starting" {
		t.Errorf("error %v", err)
	}
}

func TestProgramMissing(t *testing.T) {
	f := &Forward{Name: "exec:nothing", Args: []string{"/nonexistent/program", Port}}
	f.Start()
	defer f.Stop()
	var failed *Error
	if _, err := greeting(t, f, limit); !errors.As(err, &failed) || !strings.Contains(err.Error(), "/nonexistent/program") {
		t.Errorf("error %v", err)
	}
}

// Another process takes the port before the program does. Dial may connect to that process:
// only TLS can detect it.
func TestPortTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	picked, real := 0, pickPort
	pickPort = func() (string, error) {
		if picked++; picked == 1 {
			return other.Addr().String(), nil
		}
		return real()
	}
	defer func() { pickPort = real }()
	f, logs := start(t, "greet")
	defer f.Stop() // before pickPort is restored
	until(t, "the end", func() bool { return logs.FilterMessage("port forward exited, restarting").Len() == 1 })
	until(t, "a greeting", func() bool { got, err := greeting(t, f, limit); return got == "hello" && err == nil })
}

func TestOutputIsSampled(t *testing.T) {
	f, logs := start(t, "flood")
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	until(t, "the whole output", func() bool { return f.current().output.lastLine() == "Connection accepted" })
	if n := logs.FilterMessage("port forward output").Len(); n != sampleLines {
		t.Errorf("%d lines logged, want %d", n, sampleLines)
	}
}

// monitor counts the processes that register with it.
type monitor struct {
	listener        net.Listener
	started, exited atomic.Int32
	first           chan net.Conn
	bytes           atomic.Int64 // written by all processes
}

func startMonitor(t *testing.T) *monitor {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{listener: listener, first: make(chan net.Conn, 1)}
	t.Cleanup(func() { listener.Close() })
	go m.serve()
	return m
}

func (m *monitor) serve() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			return
		}
		if m.started.Add(1) == 1 {
			m.first <- conn
		}
		go m.watch(conn)
	}
}

// disconnect closes the connection to the first process.
func (m *monitor) disconnect() { (<-m.first).Close() }

// watch reads until the process exits.
func (m *monitor) watch(conn net.Conn) {
	n, _ := io.Copy(io.Discard, conn)
	m.bytes.Add(n)
	conn.Close()
	m.exited.Add(1)
}

// Stop also ends a child that ignores SIGTERM.
func TestStopEndsDescendants(t *testing.T) {
	t.Parallel()
	m := startMonitor(t)
	f, _ := start(t, "spawn", m.listener.Addr().String(), "ignore-sigterm")
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	if n := m.started.Load(); n != 2 {
		t.Fatalf("%d processes", n)
	}
	f.Stop()
	until(t, "both to exit", func() bool { return m.exited.Load() == 2 })
}

// A child that the program leaves is ended before the restart.
func TestExitEndsDescendants(t *testing.T) {
	t.Parallel()
	m := startMonitor(t)
	_, logs := start(t, "abandon", m.listener.Addr().String())
	until(t, "the end", func() bool { return logs.FilterMessage("port forward exited, restarting").Len() == 1 })
	until(t, "the child to exit", func() bool { return m.exited.Load() == 1 })
}

func TestStopBeforeRestart(t *testing.T) {
	t.Parallel()
	f, logs := start(t, "fail", "x")
	until(t, "the third delay", func() bool { return logs.FilterMessage("port forward exited, restarting").Len() == 3 })
	began := time.Now()
	f.Stop()
	if took := time.Since(began); took > time.Second { // the delay is 2 s
		t.Errorf("Stop took %v", took)
	}
	if n := logs.FilterMessage("port forward started").Len(); n != 3 {
		t.Errorf("it was started %d times", n)
	}
}

// A repeated line is logged again after maxRecent others.
func TestRepeatedLines(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	o := newOutput(zap.New(core))
	for i := range 300 {
		o.add("again")
		o.add("again")
		o.add(fmt.Sprint("line ", i))
	}
	if n := logs.FilterField(zap.String("line", "line 299")).Len(); n != 1 {
		t.Error("the last line was not logged")
	}
	if n := logs.FilterField(zap.String("line", "again")).Len(); n < 2 || n > 31 {
		t.Errorf("the repeated line was logged %d times", n)
	}
}

func TestEnvironment(t *testing.T) {
	f := &Forward{Name: "exec:test", Args: []string{os.Args[0], "getenv", Port, "WORD"}, Env: append(os.Environ(), "WORD=its own")}
	f.Start()
	defer f.Stop()
	if _, err := greeting(t, f, limit); err == nil || !strings.HasSuffix(err.Error(), ": its own") {
		t.Errorf("error %v", err)
	}
}
