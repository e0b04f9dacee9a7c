//go:build unix

package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The stack traces of a crash contain neither keys nor the token of a login in progress: Go
// prints addresses of strings, and not their contents. The output is searched after the
// last test.
func TestCrashShowsNoSecret(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"", "all", "system"} {
		for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV} {
			t.Run(level+" "+signal.String(), func(t *testing.T) {
				t.Parallel()
				dump := crash(t, signal, "GOTRACEBACK="+level)
				for _, part := range []string{"goroutine ", "proxy.(*session).", "upstream.(*LoginResult).authenticate(", "(0x"} {
					if !strings.Contains(dump, part) {
						t.Errorf("no %q in the dump", part)
					}
				}
				if what, before := lookFor(dump); what != "" {
					t.Errorf("%s in the dump, behind %q", what, before)
				}
			})
		}
	}
}

// crash ends the binary with a session open and a login in progress, and returns the
// output.
func crash(t *testing.T, signal syscall.Signal, env string) string {
	t.Helper()
	cluster := startCluster(t, &aurora.Cluster{})
	cmd := exec.Command(binaryPath(t), clusterArgs(cluster)...)
	cmd.Env = append(keyEnvironment(aurora.DefaultSessionKey), env)
	p := launch(t, cmd)
	p.awaitListening(1)
	open := mustConnect(t, p.conninfo(aurora.IAMUser, aurora.Database))
	mustExec(t, open, "select 1")
	cluster.SetDelay(limit)
	told := make(chan error, 1)
	go func() { told <- p.logIn(aurora.OtherUser) }()
	until(t, "a token at the server", func() bool { return len(cluster.Verdicts()) == 2 })
	p.signal(signal)
	if code := p.wait(); code != 2 {
		t.Errorf("ended with %d", code)
	}
	if err := <-told; err == nil {
		t.Error("a client is in that has lost iamproxy")
	}
	return p.logs()
}
