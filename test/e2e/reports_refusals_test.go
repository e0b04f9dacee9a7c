//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// A transient failure makes libpq try the next host, and pg_isready print "rejecting connections". A
// permanent one does neither.
func TestReportSeveralHosts(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	good := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	key, none := keyEnvironment(aurora.DefaultKey), bareEnvironment()
	sourceAway := bareEnvironment("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + conntest.ClosedAddress(t) + "/")
	at := func(via string, more ...string) []string {
		return append([]string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--via=" + via, "--connect-timeout=2s"}, more...)
	}
	trusted := "--ca-file=" + cluster.CAFile()
	for _, test := range []struct {
		name   string
		env    []string
		args   []string
		passes bool
	}{
		{"database away", key, at(conntest.ClosedAddress(t), trusted), true},
		{"no such name", key, at("no.such.name.invalid:5432", trusted), true},
		{"source of the credentials away", sourceAway, at(cluster.Addr(), trusted), true},
		{"no credentials", none, at(cluster.Addr(), trusted), false},
		{"certificate not trusted", key, at(cluster.Addr()), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, test.env, test.args...)
			hosts := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%s,%s user=%s dbname=%s sslmode=disable", p.port(), good.port(), aurora.IAMUser, aurora.Database)
			out, err := psqlAt(t, hosts, "select 'in'")
			if inSecond := err == nil && out == "in"; inSecond != test.passes {
				t.Errorf("psql: %v: %s", err, out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			state, _ := combinedOutput(t, client(ctx, "pg_isready", "-t", "30", "-d", p.conninfo(aurora.IAMUser, aurora.Database)))
			if rejecting := strings.Contains(string(state), "rejecting connections"); rejecting != test.passes {
				t.Errorf("pg_isready: %s", state)
			}
		})
	}
}

// A client whose own timeout ends its login is a warning with the latest cause.
func TestReportImpatientClient(t *testing.T) {
	t.Parallel()
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--via="+conntest.ClosedAddress(t))
	out, err := psqlAt(t, p.conninfo(aurora.IAMUser, aurora.Database)+" connect_timeout=2", "select 1")
	if err == nil || !strings.Contains(out, "timeout expired") {
		t.Fatalf("psql: %v: %s", err, out)
	}
	var line logLine
	until(t, "the warning", func() bool {
		line = p.lastLine("client disconnected during login")
		return line.Level == "warn"
	})
	if line.Reason != "dial_refused" || !strings.Contains(line.LastError, "connection refused") || !strings.Contains(line.Hint, "--connect-timeout") || !strings.Contains(line.Hint, "Run: iamproxy check ") {
		t.Errorf("logged %+v", line)
	}
}

// logLine is a line of the log.
type logLine struct {
	Level, Msg, Reason, Error, Hint string
	LastError                       string `json:"last_error"`
}

// lastLine returns the last line with the message.
func (p *process) lastLine(message string) (last logLine) {
	for _, text := range strings.Split(p.logs(), "\n") {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == message {
			last = line
		}
	}
	return last
}

// A client that requires TLS, where there is none, is a failure that is counted, logged and shown. One
// that only prefers TLS has its session.
func TestReportClientRequiresTLS(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--status=127.0.0.1:0")...)
	at := p.conninfo(aurora.IAMUser, aurora.Database)
	if out, err := psqlAt(t, at+" sslmode=prefer", "select 'in'"); err != nil || out != "in" {
		t.Errorf("psql: %v: %s", err, out)
	}
	failed := func() float64 {
		return p.metrics()[`iamproxy_login_failures_total{reason="client_tls_declined",sqlstate="08P01"}`]
	}
	again, err := pgx.Connect(t.Context(), at+" sslmode=prefer") // on another connection
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(t.Context())
	until(t, "the client that connects again", func() bool {
		return p.lastLine("client continues without encryption on another connection").Level == "debug"
	})
	if n := failed(); n != 0 {
		t.Errorf("%v failures of clients that prefer TLS", n)
	}
	for _, mode := range []string{"require", "verify-full"} {
		if out, err := psqlAt(t, at+" sslrootcert="+cluster.CAFile()+" sslmode="+mode, "select 1"); err == nil || !strings.Contains(out, "server does not support SSL") {
			t.Errorf("psql: %v: %s", err, out)
		}
	}
	until(t, "the failures", func() bool { return failed() == 2 })
	if n := p.metrics()[`iamproxy_sessions_total{result="failed"}`]; n != 2 {
		t.Errorf("%v failed sessions", n)
	}
	warnings := 0
	for _, text := range strings.Split(p.logs(), "\n") {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && line.Reason == "client_tls_declined" && line.Level == "warn" {
			warnings++
			if line.Error != "client requires TLS, which is off" || !strings.Contains(line.Hint, "--listen-tls self-signed") {
				t.Errorf("logged %+v", line)
			}
		}
	}
	if warnings != 1 { // the second one within a minute is at debug level
		t.Errorf("%d warnings", warnings)
	}
}

// The hint names what is at fault, and ends with a command that can be pasted into a shell, and that
// finds the same cause.
func TestReportHintCommand(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	closed, trusted := conntest.ClosedAddress(t), "--ca-file="+cluster.CAFile()
	for name, test := range map[string]struct {
		args  []string
		user  string
		hint  string
		check string // of what iamproxy check prints
	}{
		"port forward away":    {[]string{"--via=" + closed, trusted}, aurora.IAMUser, "Nothing is listening on " + closed + " (--via). Start the port forward, or correct --via.", "connection refused"},
		"private name":         {[]string{trusted}, aurora.IAMUser, "From outside the VPC use --via (https://github.com/iamproxy/iamproxy/blob/main/docs/developer.md).", aurora.DefaultHost},
		"no such user":         {[]string{"--via=" + cluster.Addr(), trusted}, "nobody", `User "nobody" does not exist`, "SCRAM"},
		"user with characters": {[]string{"--via=" + cluster.Addr(), trusted}, "o'hara $(id)", "does not exist", "SCRAM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := keyEnvironment(aurora.DefaultKey)
			p := startProxy(t, env, slices.Concat([]string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--connect-timeout=2s"}, test.args)...)
			config, err := pgx.ParseConfig(p.conninfo("unset", aurora.Database) + " sslmode=disable")
			if err != nil {
				t.Fatal(err)
			}
			config.User = test.user
			_, err = pgx.ConnectConfig(t.Context(), config)
			hint := hintOf(err)
			_, command, found := strings.Cut(hint, " Run: ")
			if !found || !strings.Contains(hint, test.hint) || !strings.HasPrefix(command, "iamproxy check "+aurora.DefaultHost+" --user ") {
				t.Fatalf("%v; hint %q", err, hint)
			}
			until(t, "the line in the log", func() bool { return p.lastLine("connection rejected").Hint != "" })
			if line := p.lastLine("connection rejected"); line.Hint != hint {
				t.Errorf("the log has the hint %q, want %q", line.Hint, hint)
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			check := exec.CommandContext(ctx, "sh", "-c", command)
			check.Env = append(env, "PATH="+filepath.Dir(binaryPath(t))+":"+os.Getenv("PATH"))
			out, err := combinedOutput(t, check)
			if check.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), test.check) || strings.Contains(string(out), "uid=") {
				t.Errorf("%s: %v: %s", command, err, out)
			}
		})
	}
}
