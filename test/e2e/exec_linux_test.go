package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// skipUnlessOtherUser skips the test if the account cannot run programs as the user 12345.
func skipUnlessOtherUser(t *testing.T) {
	t.Helper()
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if err := probe.Run(); errors.Is(err, fs.ErrPermission) {
		t.Skip("this account cannot run programs as other users")
	}
}

// Only the user of iamproxy can connect, over TCP too, and a user in --allow-user.
func TestExecOtherUsers(t *testing.T) {
	t.Parallel()
	skipUnlessOtherUser(t)
	cluster := startCluster(t, &aurora.Cluster{})
	const script = `setpriv --reuid=12345 --regid=12345 --clear-groups psql -X -w -A -t "$CONNINFO" -c "select 'in'" 2>&1 | grep -oE '^in$|Permission denied|processes of user 12345 are not allowed'`
	for name, test := range map[string]struct {
		env, want string
		more      []string
	}{
		"socket":          {"CONNINFO=host={socket} port={port}", "Permission denied", nil},
		"TCP":             {"CONNINFO=host={host} port={port}", "processes of user 12345 are not allowed", nil},
		"socket, allowed": {"CONNINFO=host={socket} port={port}", "in", []string{"--allow-user=12345"}},
		"TCP, allowed":    {"CONNINFO=host={host} port={port}", "in", []string{"--allow-user=12345"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExec(t, cluster, append(append([]string{"--env=" + test.env}, test.more...), asIAMUser...), "sh", "-c", script)
			if err := os.Chmod(e.tmp, 0o711); err != nil {
				t.Fatal(err)
			}
			e.expect(0, test.want)
		})
	}
}

// The command is killed with iamproxy if it runs as another user, for whom the kernel does not do it.
func TestExecKilledOtherUser(t *testing.T) {
	t.Parallel()
	skipUnlessOtherUser(t)
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "sleep", "600")
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	var children []string
	until(t, "the command", func() bool {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(e.Process.Pid), "-x", "sleep").Output()
		children = strings.Fields(string(out))
		return len(children) == 1
	})
	child, err := strconv.Atoi(children[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = e.Wait()
	until(t, "the command to be killed", func() bool { return !alive(child) })
	e.expectNothingLeft()
}

// On a terminal, psql gets Ctrl-C once, and a shell can stop and continue the command.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "psql", "-X", "-w")
	term := startOnTerminal(t, append(e.Env, "TERM=dumb", "PAGER=cat", "HISTFILE=/dev/null"), e.Args[1:]...)
	term.await(aurora.Database + `=> *\z`)
	term.press("select 'sl' || 'eeps', pg_sleep(600);\n")
	admin := connectAdmin(t, cluster)
	until(t, "the query", func() bool {
		return show(t, admin, "select count(*) from pg_stat_activity where query ~ 'sl.*pg_sleep' and pid <> pg_backend_pid()") == "1"
	})
	term.press(ctrlC)
	term.await(`canceling statement due to user request`)
	term.press("select 'aft' || 'er';\n")
	term.await(`after`)
	term.press("\\q\n")
	term.expectExit(0)
	e.expectNothingLeft()

	shell := startProgramOnTerminal(t, append(e.Env, "PS1=$ ", "TERM=dumb"), "bash", "--norc", "--noprofile", "-i")
	shell.press(strings.Join(e.Args, " ") + "\n")
	shell.await(aurora.Database + `=> *\z`)
	shell.press("\x1a") // Ctrl-Z
	shell.await(`Stopped`)
	shell.press("fg\n")
	shell.press("select 'cont' || 'inued';\n")
	shell.await(`continued`)
	shell.press("\\q\n")
	shell.press("echo code=$?\n")
	shell.await(`^code=0$`)
	shell.press("exit\n")
	shell.expectExit(0)
	e.expectNothingLeft()
}

// As PID 1, iamproxy reaps processes that have lost their parent.
func TestExecPID1(t *testing.T) {
	t.Parallel()
	if err := inPIDNamespace(exec.Command("true")).Run(); errors.Is(err, fs.ErrPermission) {
		t.Skip("this account, or root of this container, makes no PID namespaces")
	}
	cluster := startCluster(t, &aurora.Cluster{})
	// The subshell exits before its children, which become children of PID 1. ps would show
	// zombies of /proc, which belongs to the namespace of the test.
	const script = `(sleep 0.1 & sleep 0.1 & sleep 0.1 &); mount -t proc proc /proc; sleep 0.2
while grep -l '^State:.Z' /proc/[0-9]*/status >/dev/null 2>&1; do sleep 0.05; done
psql -X -w -A -t -c "select 'reaped'"`
	e := newExec(t, cluster, asIAMUser, "sh", "-c", script)
	e.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	e.expect(0, "reaped")
}
