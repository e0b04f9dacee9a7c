package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// spy records all programs that a process and its descendants start.
type spy struct {
	t    *testing.T
	root int
	own  []string // the environment of the process itself

	programs map[string]bool // by name
	stopped  chan struct{}
}

// spyOn observes a process until the returned stop, which reports the programs. What they
// have from iamproxy in their arguments and environment is recorded.
func spyOn(t *testing.T, pid int, environment []string) (stop func() (programs []string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &spy{t: t, root: pid, own: environment, programs: make(map[string]bool), stopped: make(chan struct{})}
	go s.watch(ctx)
	return func() (programs []string) {
		cancel()
		<-s.stopped
		for program := range s.programs {
			programs = append(programs, program)
		}
		slices.Sort(programs)
		return programs
	}
}

func (s *spy) watch(ctx context.Context) {
	defer close(s.stopped)
	for tick := time.NewTicker(2 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		for _, pid := range descendants(s.root) {
			s.look(pid)
		}
	}
}

// descendants returns those of a process, from /proc/PID/task/TID/children (proc(5)).
func descendants(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		for _, field := range strings.Fields(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				all = append(append(all, child), descendants(child)...)
			}
		}
	}
	return all
}

// look records the arguments of a program, and the variables that its ancestor did not
// have.
func (s *spy) look(pid int) {
	file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || file == binaryPath(s.t) { // it has ended, or has not called exec yet
		return
	}
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	environment, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	name, _, _ := strings.Cut(string(args), "\x00")
	if name = filepath.Base(name); name == "." || len(environment) == 0 {
		return
	}
	s.programs[name] = true
	keep(s.t, "the arguments of "+name, string(args))
	for _, variable := range bytes.Split(environment, []byte{0}) {
		// The environment of a program that is just starting may be incomplete.
		if !slices.ContainsFunc(s.own, func(own string) bool { return strings.HasPrefix(own, string(variable)) }) {
			keep(s.t, "the environment of "+name, string(variable))
		}
	}
	if forward := slices.Contains([]string{"aws", "session-manager-plugin", "bastion"}, name); forward {
		for _, word := range []string{"PGPASSWORD=", "IAMPROXY_"} {
			if bytes.HasPrefix(environment, []byte(word)) || bytes.Contains(environment, []byte("\x00"+word)) {
				s.t.Errorf("%s has %s in its environment", name, word)
			}
		}
	}
}

// expectPrograms fails unless these programs were seen.
func expectPrograms(t *testing.T, seen []string, want ...string) {
	t.Helper()
	for _, program := range want {
		if !slices.Contains(seen, program) {
			t.Errorf("saw %q, and no %s", seen, program)
		}
	}
}

// Programs that run starts receive no secrets but those that the user has put into the
// environment for them.
func TestRunChildrenGetNoSecrets(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	f := startForwarders(t, cluster, instance+" eu-west-1")
	s := newSourceTest(t, cluster)
	s.writeKey("process.json", time.Hour, processOutput)
	s.write("config", "[profile p]\ncredential_process = sleep 0.5; cat "+s.path("process.json")+"\n")
	authorization := "Basic " + newSecret("an authorization token")
	s.aws.RequireAuthorization(authorization)
	for name, test := range map[string]struct {
		via      string
		env      []string
		programs []string
	}{
		"keys":      {bastion, keyEnvironment(aurora.DefaultSessionKey), []string{"bastion"}},
		"a program": {awsCLI, bareEnvironment("AWS_CONFIG_FILE="+s.path("config"), "AWS_PROFILE=p"), []string{"aws", "session-manager-plugin", "sleep"}},
		"a container": {bastion, bareEnvironment("AWS_CONTAINER_CREDENTIALS_FULL_URI="+s.aws.URL()+"/container/x",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN="+authorization), []string{"bastion"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binaryPath(t), forwardArgs(cluster, test.via)...)
			cmd.Env = slices.Concat(test.env, f.own, []string{"PGPASSWORD=" + adminPassword, "IAMPROXY_LOG_LEVEL=debug"})
			p := launch(t, cmd)
			stop := spyOn(t, cmd.Process.Pid, cmd.Env)
			p.awaitListening(1)
			open := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
			p.mustPSQL(aurora.OtherUser, aurora.Database, "select 1")
			mustExec(t, open, "select 1")
			args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			keep(t, "the arguments of iamproxy", string(args))
			expectPrograms(t, stop(), test.programs...)
		})
	}
}

// Neither do programs of other commands, which have the administrator's password.
func TestCommandChildrenGetNoSecrets(t *testing.T) {
	t.Parallel()
	s := startSecretTest(t)
	f := startForwarders(t, s.cluster, instance+" eu-west-1")
	for _, test := range []struct {
		name      string
		args, env []string
	}{
		{"grant", []string{"grant", "--user=app"}, append(keyEnvironment(aurora.DefaultKey), "PGPASSWORD="+adminPassword)},
		{"grant with a secret", []string{"grant", "--user=app", "--admin-secret=" + bossSecret}, append(bareEnvironment(), s.env...)},
		{"check", []string{"check", "--user=app"}, append(keyEnvironment(aurora.DefaultSessionKey), "PGPASSWORD="+adminPassword)},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append(test.args, aurora.DefaultHost, "--via="+awsCLI, "--ca-file="+s.cluster.CAFile())
			cmd := exec.CommandContext(t.Context(), binaryPath(t), args...)
			var out strings.Builder
			cmd.Env, cmd.Stdout, cmd.Stderr = append(test.env, f.own...), &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := spyOn(t, cmd.Process.Pid, cmd.Env)
			err := cmd.Wait()
			keep(t, test.name, out.String())
			if err != nil {
				t.Errorf("%v: %s", err, out.String())
			}
			expectPrograms(t, stop(), "aws", "session-manager-plugin")
		})
	}
}
