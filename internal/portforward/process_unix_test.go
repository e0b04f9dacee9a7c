//go:build unix

package portforward

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	programs["daemonize"] = daemonize
	programs["greet-registered"] = greetRegistered
	programs["wait-children"] = waitChildren
	programs["exit-slowly"] = exitSlowly
}

// daemonize exits once a child in another session has the port, as ssh -f does.
func daemonize(args []string) (int, error) {
	child := exec.Command(os.Args[0], "greet-registered", args[0], args[1])
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return 1, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+args[0])
	for ; err != nil; conn, err = net.Dial("tcp", "127.0.0.1:"+args[0]) {
		time.Sleep(5 * time.Millisecond)
	}
	return 0, conn.Close()
}

// greetRegistered greets clients until the monitor disconnects.
func greetRegistered(args []string) (int, error) {
	if err := register(args[1]); err != nil {
		return 1, err
	}
	go greet(args[0], -1) //nolint:errcheck // the test fails without a greeting
	_, err := io.Copy(io.Discard, registered[0])
	return 0, err
}

// waitChildren exits when it has no children.
func waitChildren([]string) (int, error) {
	var err error
	for err == nil {
		_, err = syscall.Wait4(-1, nil, 0, nil)
	}
	return 5, err
}

// exitSlowly closes its output, and takes a while to exit after SIGTERM.
func exitSlowly(args []string) (int, error) {
	os.Stdout.Close()
	os.Stderr.Close()
	if err := register(args[1]); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go greet(args[0], -1) //nolint:errcheck // the test fails without a greeting
	<-signals
	time.Sleep(300 * time.Millisecond)
	_, err := fmt.Fprint(registered[0], "good bye")
	return 0, err
}

// A program whose background process cannot be ended is not restarted, and Dial returns
// the reason.
func TestBackgroundProcess(t *testing.T) {
	t.Parallel()
	m := startMonitor(t)
	defer m.disconnect()
	f, logs := start(t, "daemonize", m.listener.Addr().String())
	until(t, "the end", func() bool { return logs.FilterMessage("port forward exited, restarting").Len() == 1 })
	if _, err := greeting(t, f, limit); err == nil || !strings.Contains(err.Error(), "it went into the background") {
		t.Errorf("error %v", err)
	}
	time.Sleep(2 * minDelay)
	if n := m.started.Load(); n != 1 {
		t.Errorf("%d background processes, want 1", n)
	}
}

// Stop returns even if the program cannot be sent signals (sudo).
func TestStopNotPermitted(t *testing.T) {
	kill = func(int, syscall.Signal) error { return syscall.EPERM }
	defer func() { kill = syscall.Kill }()
	f, logs := start(t, "ignore-sigterm", startMonitor(t).listener.Addr().String())
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	f.Stop()
	if logs.FilterMessage("could not stop all processes of the port forward").Len() != 1 {
		t.Error("the failure was not logged")
	}
	<-f.current().process.exited // the guard ends it
}

func TestGuardIsNotAChild(t *testing.T) {
	f, _ := start(t, "wait-children")
	if _, err := greeting(t, f, limit); err == nil || !strings.Contains(err.Error(), "exit status 5: no child processes") {
		t.Errorf("error %v", err)
	}
}

// Other users cannot see the arguments in the guard's command line.
func TestGuardHidesArguments(t *testing.T) {
	f, _ := start(t, "greet", "PASSWORD")
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	out, err := exec.Command("ps", "-A", "-o", "pgid=,args=").Output()
	if err != nil {
		t.Skip("no ps: ", err)
	}
	group := f.current().process.cmd.Process.Pid
	var seen, shown int
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == strconv.Itoa(group) {
			seen++
			shown += strings.Count(line, "PASSWORD")
		}
	}
	if seen != 2 || shown != 1 {
		t.Errorf("%d processes, %d of them with the arguments", seen, shown)
	}
}

// A program that has closed its output still gets terminateTimeout to exit.
func TestStopWaits(t *testing.T) {
	m := startMonitor(t)
	f, _ := start(t, "exit-slowly", m.listener.Addr().String())
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	f.Stop()
	until(t, "the process to exit", func() bool { return m.exited.Load() == 1 })
	if m.bytes.Load() != int64(len("good bye")) {
		t.Error("the process was killed too early")
	}
}
