//go:build unix

package portforward

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	programs["goes-away"] = goAway
	programs["stays"] = stay
	programs["has-children"] = haveChildren
}

// goAway goes into the background, as ssh -f does: when it has the port, until the witness leaves.
func goAway(args []string) (int, error) {
	other := exec.Command(os.Args[0], "stays", args[0], args[1])
	other.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := other.Start(); err != nil {
		return 1, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+args[0])
	for ; err != nil; conn, err = net.Dial("tcp", "127.0.0.1:"+args[0]) {
		time.Sleep(5 * time.Millisecond)
	}
	return 0, conn.Close()
}

// stay greets, as long as there is the witness.
func stay(args []string) (int, error) {
	if err := appear(args[1]); err != nil {
		return 1, err
	}
	go greet(args[0], -1) //nolint:errcheck // there is nobody to tell
	_, err := io.Copy(io.Discard, held[0])
	return 0, err
}

// haveChildren ends when it has no children.
func haveChildren([]string) (int, error) {
	var err error
	for err == nil {
		_, err = syscall.Wait4(-1, nil, 0, nil)
	}
	return 5, err
}

// What has gone where it cannot be ended is not started again beside it, and a client is told why.
func TestGoesAway(t *testing.T) {
	w := startWitness(t)
	defer w.leave()
	f, logs := start(t, "goes-away", w.listener.Addr().String())
	until(t, "the end", func() bool { return logs.FilterMessage("the port forward ended; it is started again").Len() == 1 })
	if _, err := greeting(t, f, limit); err == nil || !strings.Contains(err.Error(), "it went into the background") {
		t.Errorf("told %v", err)
	}
	time.Sleep(2 * firstPause)
	if n := w.come.Load(); n != 1 {
		t.Errorf("there are %d", n)
	}
}

// Who may not send it signals (sudo) is not kept from ending.
func TestMayNotBeEnded(t *testing.T) {
	kill = func(int, syscall.Signal) error { return syscall.EPERM }
	defer func() { kill = syscall.Kill }()
	f, logs := start(t, "stubborn", startWitness(t).listener.Addr().String())
	if got, err := greeting(t, f, limit); got != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	f.Stop()
	if logs.FilterMessage("the port forward could not be ended; something of it is left").Len() != 1 {
		t.Error("that is not in the log")
	}
	<-f.current().process.gone // by its guard, which is no other user's here
}

// The guard is no child of the program.
func TestHasNoChildren(t *testing.T) {
	f, _ := start(t, "has-children")
	if _, err := greeting(t, f, limit); err == nil || !strings.Contains(err.Error(), "exit status 5: no child processes") {
		t.Errorf("told %v", err)
	}
}

// The guard does not show the arguments to all users.
func TestGuardIsDiscreet(t *testing.T) {
	f, _ := start(t, "greets", "PASSWORD")
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
