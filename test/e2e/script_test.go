//go:build unix

package e2e

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var update = flag.Bool("update", false, "rewrite the output in testdata/script")

// TestScript runs the transcripts in testdata/script: what a user types, and what the real
// binary prints. README.md there describes their commands.
func TestScript(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(binaryPath(t))
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, bareEnvironment("ENDPOINT="+aurora.DefaultHost, "SECRET="+newSecret("a script's secret"), "LC_ALL=C")...)
			env.Setenv("PATH", dir+string(filepath.ListSeparator)+env.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"iamproxy": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg {
					ts.Fatalf("use exits 1 or exits 2")
				}
				runScripted(t, ts, 0, "iamproxy", args...)
			},
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || !slices.Contains(args, "iamproxy") {
					ts.Fatalf("usage: exits CODE [NAME=VALUE...] iamproxy ARGS...")
				}
				code, err := strconv.Atoi(args[0])
				ts.Check(err)
				runScripted(t, ts, code, "env", args[1:]...)
			},
			"aurora": func(ts *testscript.TestScript, neg bool, args []string) { startScripted(t, ts, neg, args) },
		},
	})
}

// runScripted runs the binary, by itself or through env, and fails unless it exits with code.
// A usage error must be one line on standard error, and nothing on standard output.
func runScripted(t *testing.T, ts *testscript.TestScript, code int, program string, args ...string) {
	err := ts.Exec(program, args...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	keep(t, ts.Name()+", standard error", stderr)
	if !slices.Contains(args, "token") {
		keep(t, ts.Name()+", standard output", stdout)
	}
	if got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
	if code == 2 && (stdout != "" || !strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1) {
		ts.Fatalf("a usage error must be one line on standard error")
	}
}

// startScripted starts a cluster for the rest of the script, and sets the variables that lead
// iamproxy to it, with an AWS access key.
func startScripted(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: aurora")
	}
	cluster := &aurora.Cluster{Given: noteToken}
	ts.Check(cluster.Start(t.Context()))
	ts.Defer(func() { ts.Check(cluster.Close()) })
	for name, value := range map[string]string{
		"IAMPROXY_VIA": cluster.Addr(), "IAMPROXY_CA_FILE": cluster.CAFile(),
		"AWS_ACCESS_KEY_ID": aurora.DefaultKey.AccessKeyID, "AWS_SECRET_ACCESS_KEY": aurora.DefaultKey.SecretAccessKey,
	} {
		ts.Setenv(name, value)
	}
}
