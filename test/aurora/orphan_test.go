//go:build unix

package aurora

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// ownerState makes TestMain the owner of a Cluster that is killed, and is the state of the
// Cluster then.
const ownerState = "STANDIN_TEST_OWNER"

func TestMain(m *testing.M) {
	if state := os.Getenv(ownerState); state != "" {
		if err := beOwner(state); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// belongings are the processes and files of an owner.
type belongings struct {
	Dir  string
	PIDs []int
}

// beOwner starts a Cluster, prints its belongings, and waits to be killed.
func beOwner(state string) error {
	var c Cluster
	ctx, cancel := contextWithLimit()
	defer cancel()
	if err := c.Start(ctx); err != nil {
		return err
	}
	if _, err := c.Admin(ctx, Database); err != nil { // an open session
		return err
	}
	members, err := family(c.server.pid())
	if err != nil {
		return err
	}
	switch state {
	case "frozen":
		err = c.Freeze()
	case "stopped":
		err = c.Stop(ctx, Immediate)
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(belongings{c.dir, append(pids(members), c.janitor.cmd.Process.Pid)}); err != nil {
		return err
	}
	if state == "panicking" {
		panic("on purpose")
	}
	select {}
}

func TestOwnerDies(t *testing.T) {
	t.Parallel()
	if _, err := BinDir(); err != nil {
		t.Skip(err)
	}
	for _, state := range []string{"running", "frozen", "stopped", "panicking"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), ownerState+"="+state)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if state != "panicking" {
				cmd.Stderr = os.Stderr
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadBytes('\n')
			if err == nil && state != "panicking" {
				err = cmd.Process.Kill()
			}
			_ = cmd.Wait() // killed, or panicked
			if err != nil {
				t.Fatal(err)
			}
			var left belongings
			if err := json.Unmarshal(line, &left); err != nil {
				t.Fatal(err)
			}
			eventually(t, "removal of the directory", func() bool {
				_, err := os.Stat(left.Dir)
				return os.IsNotExist(err)
			})
			for _, pid := range left.PIDs {
				eventually(t, "end of every process", func() bool { return ended(t, pid) })
			}
		})
	}
}

// ended reports whether a process has ended, even if it is a zombie.
func ended(t *testing.T, pid int) bool {
	t.Helper()
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.pid == pid {
			return s.zombie()
		}
	}
	return true
}
