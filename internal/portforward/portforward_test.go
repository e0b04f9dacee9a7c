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

// limit only runs out in a test that fails.
const limit = 30 * time.Second

// start starts a program of main_test.go.
func start(t *testing.T, program string, more ...string) (*Forward, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	f := &Forward{Name: "exec:test", Args: append([]string{os.Args[0], program, Port}, more...), Hint: "mend it", Log: zap.New(core)}
	f.Start()
	t.Cleanup(f.Stop)
	return f, logs
}

// greeting is what is read through it.
func greeting(t *testing.T, f *Forward, patience time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := f.Dial(ctx, "tcp", "of no account:5432")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	b, err := io.ReadAll(conn)
	return string(b), err
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

func TestDialWaits(t *testing.T) {
	f, logs := start(t, "greets-late")
	for range 5 {
		if got, err := greeting(t, f, limit); got != "hello" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
	until(t, "what it says", func() bool { return logs.FilterMessage("the port forward says").Len() >= 2 })
	if n := logs.FilterField(zap.String("text", "Connection accepted")).Len(); n != 1 {
		t.Errorf("the same line is in the log %d times", n)
	}
}

// Who dials in between is told why it ended.
func TestComesBack(t *testing.T) {
	f, logs := start(t, "greets-once")
	ports := map[string]bool{}
	for range 2 {
		until(t, "a greeting", func() bool { got, err := greeting(t, f, limit); return got == "hello" && err == nil })
		ports[f.current().address] = true
		var failed *Error
		until(t, "the end", func() bool { _, err := greeting(t, f, limit); return errors.As(err, &failed) })
		if want := "the port forward ended: exit status 3: good bye"; failed.Error() != want || failed.Advice() != "mend it" || failed.Err != nil {
			t.Errorf("told %+v, want %q", failed, want)
		}
	}
	if len(ports) != 2 {
		t.Error("the port is the same again")
	}
	if n := logs.FilterMessage("the port forward ended; it is started again").Len(); n != 2 {
		t.Errorf("%d ends in the log", n)
	}
}

func TestPausesGrow(t *testing.T) {
	f, logs := start(t, "fails", "An error occurred (TargetNotConnected)")
	_, err := greeting(t, f, limit)
	if want := "the port forward ended: exit status 254: An error occurred (TargetNotConnected)"; err == nil || err.Error() != want {
		t.Errorf("told %v, want %q", err, want)
	}
	ends := func() []observer.LoggedEntry {
		return logs.FilterMessage("the port forward ended; it is started again").All()
	}
	until(t, "three ends", func() bool { return len(ends()) == 3 })
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		if got := ends()[i].ContextMap()["in"]; got != want {
			t.Errorf("pause %d is %v, want %v", i, got, want)
		}
	}
}

func TestNeverComesUp(t *testing.T) {
	f, _ := start(t, "silent")
	until(t, "its first word", func() bool { return f.current().output.lastLine() != "" })
	_, err := greeting(t, f, 120*time.Millisecond)
	var failed *Error
	if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || failed.Hint != "mend it" ||
		failed.Error() != "the port forward does not answer after 100ms; it has said: Starting" {
		t.Errorf("told %v", err)
	}
}

func TestNoProgram(t *testing.T) {
	f := &Forward{Name: "exec:nothing", Args: []string{"/nonexistent/program", Port}}
	f.Start()
	defer f.Stop()
	var failed *Error
	if _, err := greeting(t, f, limit); !errors.As(err, &failed) || !strings.Contains(err.Error(), "/nonexistent/program") {
		t.Errorf("told %v", err)
	}
}

// Somebody takes the port before the program does. Who is let in by that somebody is none
// the wiser here; it is TLS that tells.
func TestPortTaken(t *testing.T) {
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	picked, real := 0, pickPort
	pickPort = func() (string, error) {
		if picked++; picked == 1 {
			return stranger.Addr().String(), nil
		}
		return real()
	}
	defer func() { pickPort = real }()
	f, logs := start(t, "greets")
	defer f.Stop() // before pickPort is what it was
	until(t, "the end", func() bool { return logs.FilterMessage("the port forward ended; it is started again").Len() == 1 })
	until(t, "a greeting", func() bool { got, err := greeting(t, f, limit); return got == "hello" && err == nil })
}

func TestFlood(t *testing.T) {
	f, logs := start(t, "floods")
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	until(t, "all of it", func() bool { return f.current().output.lastLine() == "Connection accepted" })
	if n := logs.FilterMessage("the port forward says").Len(); n != sampleLines {
		t.Errorf("%d lines in the log", n)
	}
}

// witness sees processes come and go.
type witness struct {
	listener    net.Listener
	come, going atomic.Int32
	first       chan net.Conn
	bytes       atomic.Int64 // that they have written
}

func startWitness(t *testing.T) *witness {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{listener: listener, first: make(chan net.Conn, 1)}
	t.Cleanup(func() { listener.Close() })
	go w.watch()
	return w
}

func (w *witness) watch() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		if w.come.Add(1) == 1 {
			w.first <- conn
		}
		go w.see(conn)
	}
}

// leave hangs up on the first of them.
func (w *witness) leave() { (<-w.first).Close() }

func (w *witness) see(conn net.Conn) {
	n, _ := io.Copy(io.Discard, conn)
	w.bytes.Add(n)
	conn.Close()
	w.going.Add(1)
}

// With the program ends what it has started, even if that does not want to.
func TestStopEndsAll(t *testing.T) {
	w := startWitness(t)
	f, _ := start(t, "plugs", w.listener.Addr().String(), "stubborn")
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	if n := w.come.Load(); n != 2 {
		t.Fatalf("%d processes", n)
	}
	f.Stop()
	until(t, "both to be gone", func() bool { return w.going.Load() == 2 })
}

// What an end has left behind is ended before the program is started again.
func TestNothingIsLeftBehind(t *testing.T) {
	w := startWitness(t)
	_, logs := start(t, "leaves", w.listener.Addr().String())
	until(t, "the end", func() bool { return logs.FilterMessage("the port forward ended; it is started again").Len() == 1 })
	until(t, "the other to be gone", func() bool { return w.going.Load() == 1 })
}

func TestStopInAPause(t *testing.T) {
	f, logs := start(t, "fails", "x")
	until(t, "the third pause", func() bool { return logs.FilterMessage("the port forward ended; it is started again").Len() == 3 })
	began := time.Now()
	f.Stop()
	if took := time.Since(began); took > time.Second { // the pause is of 2 s
		t.Errorf("it took %v", took)
	}
	if n := logs.FilterMessage("the port forward is started").Len(); n != 3 {
		t.Errorf("it was started %d times", n)
	}
}

// Lines come again that are not of a moment ago, and a run may say as much as it likes in time.
func TestOldLinesComeAgain(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	o := newOutput(zap.New(core))
	for i := range 300 {
		o.add("again")
		o.add("again")
		o.add(fmt.Sprint("line ", i))
	}
	if n := logs.FilterField(zap.String("text", "line 299")).Len(); n != 1 {
		t.Error("the last line is not in the log")
	}
	if n := logs.FilterField(zap.String("text", "again")).Len(); n < 2 || n > 31 {
		t.Errorf("the line that comes again is in the log %d times", n)
	}
}

// What is asked to end has the time for it, wherever its output goes.
func TestGrace(t *testing.T) {
	w := startWitness(t)
	f, _ := start(t, "says-good-bye", w.listener.Addr().String())
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	f.Stop()
	until(t, "the process to be gone", func() bool { return w.going.Load() == 1 })
	if w.bytes.Load() != int64(len("good bye")) {
		t.Error("it was killed while it took its leave")
	}
}

func TestEnvironment(t *testing.T) {
	f := &Forward{Name: "exec:test", Args: []string{os.Args[0], "tells", Port, "WORD"}, Env: append(os.Environ(), "WORD=its own")}
	f.Start()
	defer f.Stop()
	if _, err := greeting(t, f, limit); err == nil || !strings.HasSuffix(err.Error(), ": its own") {
		t.Errorf("told %v", err)
	}
}
