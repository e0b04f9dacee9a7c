//go:build unix

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The commands that connect start a port forward as run does, and end it.
func TestForwardByCommands(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	f := startForwarders(t, cluster, instance+" eu-west-1")
	run := func(args ...string) (output string, code int) {
		cmd := exec.CommandContext(t.Context(), binaryPath(t), append(args, "--via="+awsCLI, "--ca-file="+cluster.CAFile())...)
		cmd.Env = append(f.env, "PGPASSWORD="+adminPassword)
		out, _ := combinedOutput(t, cmd)
		until(t, "the forward to be gone", func() bool { return len(f.living("")) == 0 })
		return string(out), cmd.ProcessState.ExitCode()
	}

	if out, code := run("grant", aurora.DefaultHost, "--user=app"); !strings.HasPrefix(out, "created role \"app\"\ngranted rds_iam to \"app\"\n") || code != 0 {
		t.Errorf("grant ended with %d: %s", code, out)
	}
	out, code := run("check", aurora.DefaultHost, "--user=app")
	if code != 0 || !strings.Contains(out, "the port forward resolves the name") || !strings.HasSuffix(out, "\nok: user \"app\" can log in to database \"postgres\"\n") {
		t.Errorf("check ended with %d: %s", code, out)
	}
	if n := f.seen; n != 4 { // the AWS CLI and its plugin, twice
		t.Errorf("%d processes were started", n)
	}

	f.behave(t, refuses)
	out, code = run("grant", aurora.DefaultHost, "--user=app")
	if code != 1 || !strings.Contains(out, "(via exec:aws): port forward exited: exit status 254: "+refusal) || strings.Count(out, "\n") != 1 {
		t.Errorf("grant ended with %d: %s", code, out)
	}
	out, code = run("check", aurora.DefaultHost, "--user=app")
	if code != 1 || !strings.Contains(out, "tcp          failed") || !strings.Contains(out, refusal) || !strings.Contains(out, "Check that the command stays in the foreground") {
		t.Errorf("check ended with %d: %s", code, out)
	}
}

// A command may contain a password.
func TestCheckDoesNotShowTheCommand(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, "")
	cmd := exec.CommandContext(t.Context(), binaryPath(t), "check", aurora.DefaultHost, "--user=nobody", "--via=exec:bastion -L {port}:{host}:{dbport} 'a bastion'", "--ca-file="+cluster.CAFile())
	cmd.Env = f.env
	out, _ := combinedOutput(t, cmd)
	if text := string(out); strings.Contains(text, "a bastion") || !strings.Contains(text, "iamproxy grant "+aurora.DefaultHost+" --user nobody --via exec:COMMAND") {
		t.Errorf("printed %s", text)
	}
}
