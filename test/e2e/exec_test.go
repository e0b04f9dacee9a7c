//go:build unix

package e2e

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// execution is a run of iamproxy exec.
type execution struct {
	*exec.Cmd
	t               *testing.T
	printed, errors bytes.Buffer
	tmp             string // TMPDIR, in which nothing may be left
}

// newExec returns a command that connects to the stand-in through iamproxy exec. Words among flags
// are further endpoints.
func newExec(t *testing.T, cluster *aurora.Cluster, flags []string, command ...string) *execution {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	args := []string{"exec", aurora.DefaultHost}
	own := []string{"--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile()}
	for _, word := range flags {
		if strings.HasPrefix(word, "--") {
			own = append(own, word)
		} else {
			args = append(args, word)
		}
	}
	args = append(append(append(args, own...), "--"), command...)
	e := &execution{Cmd: exec.CommandContext(ctx, binaryPath(t), args...), t: t, tmp: shortTempDir(t)}
	e.Env = append(keyEnvironment(aurora.DefaultKey), "TMPDIR="+e.tmp, "PGPASSFILE=/nonexistent", "LC_ALL=C")
	e.Stdout, e.Stderr = &e.printed, &e.errors
	t.Cleanup(func() {
		cancel()
		keep(t, "exec", e.printed.String()+e.errors.String())
	})
	return e
}

// shortTempDir returns a directory in which the path of a socket is short enough.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "exec-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// expect runs the command to its end. Nothing may be left of it.
func (e *execution) expect(code int, stdout string) {
	e.t.Helper()
	if err := e.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.expectEnd(code, stdout)
}

func (e *execution) expectEnd(code int, stdout string) {
	e.t.Helper()
	_ = e.Wait()
	if got := e.ProcessState.ExitCode(); got != code {
		e.t.Errorf("exit code %d, want %d; %s", got, code, e.errors.String())
	}
	if got := strings.TrimSpace(e.printed.String()); got != stdout {
		e.t.Errorf("printed %q, want %q; %s", got, stdout, e.errors.String())
	}
	e.expectNothingLeft()
}

// expectNothingLeft waits until there is no file, and no process with the directory in its command
// line, such as the guard.
func (e *execution) expectNothingLeft() {
	e.t.Helper()
	until(e.t, "the directory to be empty", func() bool {
		left, err := os.ReadDir(e.tmp)
		return err == nil && len(left) == 0
	})
	until(e.t, "the guard to exit", func() bool { return exec.Command("pgrep", "-f", e.tmp+"/").Run() != nil })
}

var asIAMUser = []string{"--user=" + aurora.IAMUser, "--database=" + aurora.Database}

// psqlWords is psql with the variables of exec, and one statement.
func psqlWords(statement string) []string {
	return []string{"psql", "-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement}
}

// The command connects with libpq's variables, and iamproxy prints nothing.
func TestExec(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, psqlWords("select current_user || ' ' || current_database()")...)
	e.Env = append(e.Env, "PGHOSTADDR=192.0.2.1", "PGSERVICE=other", "PGPASSWORD=HUNTER2", "PGSSLMODE=verify-full", "PGHOST=other.example")
	e.expect(0, aurora.IAMUser+" "+aurora.Database)
	if got := e.errors.String(); got != "" {
		t.Errorf("standard error: %s", got)
	}
}

// The exit code is that of the command, or 128 and the signal, or that of a shell for a command that
// cannot be started.
func TestExecExitCode(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	for code, words := range map[int][]string{
		0:   {"true"},
		7:   {"sh", "-c", "exit 7"},
		126: {"/etc/passwd"},
		127: {"no-such-command"},
		143: {"sh", "-c", "kill -TERM $$"},
		137: {"sh", "-c", "kill -KILL $$"},
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			newExec(t, cluster, asIAMUser, words...).expect(code, "")
		})
	}
}

// The command is not started before iamproxy can sign and, with --check, log in.
func TestExecNotStarted(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "echo", "started")
	e.Env = append(bareEnvironment(), "TMPDIR="+e.tmp)
	e.expect(1, "")
	if got := e.errors.String(); !strings.Contains(got, "could not sign a token, so the command was not started: ") {
		t.Errorf("printed %q", got)
	}

	e = newExec(t, cluster, []string{"--user=nobody", "--check"}, "echo", "started")
	e.expect(1, "")
	for _, want := range []string{"failed: user", "do this next:", "iamproxy grant "} {
		if got := e.errors.String(); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	newExec(t, cluster, append([]string{"--check"}, asIAMUser...), "echo", "started").expect(0, "started")
}

// The variables of --env name each endpoint, by its socket or its port, and the command has no
// variables of iamproxy.
func TestExecEnvironment(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	const script = `
psql -X -w -A -t "$URL" -c "select 'tcp ' || current_user" &&
psql -X -w -A -t "$SECOND" -c "select 'socket ' || current_user" &&
env | grep -E '^(IAMPROXY|AWS)_' ; echo "$NAME"`
	second := aurora.DefaultHost + "?user=" + aurora.IAMUser + "&database=" + aurora.Database
	flags := []string{second, "--clean-env",
		"--env=URL=postgres://{user}@{host}:{port}/{database}?sslmode=disable",
		"--env=SECOND=postgresql:///{database2}?host={socket2}&port={port2}&user={user2}",
		"--env=NAME={database}",
	}
	e := newExec(t, cluster, append(flags, asIAMUser...), "sh", "-c", script)
	e.Env = append(e.Env, "IAMPROXY_LOG_FORMAT=json")
	e.expect(0, "tcp "+aurora.IAMUser+"\nsocket "+aurora.IAMUser+"\n"+aurora.Database)
}

// A relative path of a socket is a full one for the command.
func TestExecRelativeSocket(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, append([]string{"--listen=unix:."}, asIAMUser...), "sh", "-c", `cd / && psql -X -w -A -t -c "select 'in'"`)
	e.Dir = shortTempDir(t)
	e.expect(0, "in")
}

// start runs a command that prints "ready" once it has its signal handlers, and waits for that.
func (e *execution) start() {
	e.t.Helper()
	ready := filepath.Join(shortTempDir(e.t), "ready")
	e.Env = append(e.Env, "READY="+ready)
	if err := e.Start(); err != nil {
		e.t.Fatal(err)
	}
	until(e.t, "the command", func() bool { _, err := os.Stat(ready); return err == nil })
}

// Signals are passed on, and the command can finish its work with the database.
func TestExecSignals(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	const script = `trap 'psql -X -A -t -w -c "select 5"; exit 3' %s; touch "$READY"; while :; do sleep 0.05; done`
	for name, signal := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "QUIT": syscall.SIGQUIT, "WINCH": syscall.SIGWINCH} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExec(t, cluster, asIAMUser, "sh", "-c", strings.Replace(script, "%s", name, 1))
			e.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
			e.start()
			if err := e.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			e.expectEnd(3, "5")
		})
	}
}

// A command that ignores SIGTERM is served until it exits.
func TestExecIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "sh", "-c", `trap '' TERM; trap 'seen=1' USR1; touch "$READY"; while [ -z "$seen" ]; do sleep 0.05; done; psql -X -A -t -w -c "select 6"`)
	e.start()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGUSR1} {
		if err := e.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	e.expectEnd(0, "6")
}

// If iamproxy is killed, so is the command, and the socket is removed.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "sh", "-c", `trap '' TERM HUP; echo $$ >"$READY.pid"; touch "$READY"; while :; do sleep 0.05; done`)
	e.start()
	var file string
	for _, variable := range e.Env {
		if path, ok := strings.CutPrefix(variable, "READY="); ok {
			file = path + ".pid"
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	command, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	// The guard survives what systemd sends to each process of a unit.
	if err := exec.Command("pkill", "-TERM", "-f", "iamproxy-guard "+e.tmp).Run(); err != nil {
		t.Error("no guard:", err)
	}
	if err := e.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = e.Wait()
	until(t, "the command to be killed", func() bool { return !alive(command) })
	e.expectNothingLeft()
}

// A process that the command leaves in the background does not keep iamproxy. Its session is closed
// after --drain-max.
func TestExecBackground(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, append([]string{"--drain-max=1s"}, asIAMUser...), "sh", "-c",
		`psql -X -A -t -w -c "\! touch $READY" -c 'select pg_sleep(600)' >/dev/null 2>&1 & while ! [ -e "$READY" ]; do sleep 0.01; done; exit 4`)
	e.Env = append(e.Env, "READY="+filepath.Join(shortTempDir(t), "ready"))
	e.expect(4, "")
	if got := e.errors.String(); !strings.Contains(got, "the command has left 1 session open") {
		t.Errorf("printed %q", got)
	}
}

// The command line names what is wrong with it.
func TestExecUsage(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"no COMMAND given":                   {aurora.DefaultHost},
		"COMMAND comes after --":             {aurora.DefaultHost, "--user=app", "psql", "-c", "select 1"},
		"must be NAME=TEMPLATE":              {aurora.DefaultHost, "--env=1=x", "--", "true"},
		"{user} needs --user":                {aurora.DefaultHost, "--env=A={user}", "--", "true"},
		"there is no endpoint 2":             {aurora.DefaultHost, "--env=A={host2}", "--", "true"},
		"{hots} is unknown":                  {aurora.DefaultHost, "--env=A={hots}", "--", "true"},
		"{socket} needs a unix socket":       {aurora.DefaultHost, "--listen=127.0.0.1:0", "--env=A={socket}", "--", "true"},
		"exec listens on loopback addresses": {aurora.DefaultHost, "--listen=0.0.0.0:0", "--", "true"},
		"--check: needs --user":              {aurora.DefaultHost, "--check", "--", "true"},
	} {
		cmd := exec.Command(binaryPath(t), append([]string{"exec"}, args...)...)
		cmd.Env = keyEnvironment(aurora.DefaultKey)
		out, _ := combinedOutput(t, cmd)
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%q: exit code %d: %s, want %q", args, code, out, want)
		}
	}
}

// Python's drivers connect with libpq's variables, and with URLs of the socket and the port.
func TestExecPython(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import asyncpg, psycopg, psycopg2").Run(); err != nil {
		t.Skip("python3 lacks a driver: `make drivers` installs them")
	}
	cluster := startCluster(t, &aurora.Cluster{})
	const program = `
import asyncio, asyncpg, os, psycopg, psycopg2
for driver in psycopg, psycopg2:
    for conninfo in "", os.environ["BY_PORT"], os.environ["BY_SOCKET"]:
        with driver.connect(conninfo) as connection:
            cursor = connection.cursor()
            cursor.execute("select current_user")
            assert cursor.fetchone() == (os.environ["PGUSER"],)
async def main():
    for url in None, os.environ["BY_PORT"], os.environ["BY_SOCKET"]:
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select current_user") == os.environ["PGUSER"]
        await connection.close()
asyncio.run(main())
print("done")`
	newExec(t, cluster, append([]string{
		"--env=BY_PORT=postgresql://{user}@{host}:{port}/{database}?sslmode=disable",
		"--env=BY_SOCKET=postgresql://{user}@/{database}?host={socket}&port={port}&sslmode=disable",
	}, asIAMUser...), python, "-c", program).expect(0, "done")
}

// Node.js's drivers connect with libpq's variables, and with URLs.
func TestExecNode(t *testing.T) {
	t.Parallel()
	const drivers = "../drivers/node"
	if _, err := os.Stat(filepath.Join(drivers, "node_modules")); err != nil {
		t.Skip("no drivers of Node.js: `make drivers` installs them")
	}
	cluster := startCluster(t, &aurora.Cluster{})
	const program = `
import assert from 'node:assert'
import pg from 'pg'
import postgres from 'postgres'
const { BY_PORT, BY_SOCKET, PGUSER } = process.env
for (const connectionString of [undefined, BY_PORT, BY_SOCKET]) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  assert.equal((await client.query('select current_user as name')).rows[0].name, PGUSER)
  await client.end()
}
for (const url of [undefined, BY_PORT]) {
  const sql = postgres(url)
  assert.equal((await sql` + "`select current_user as name`" + `)[0].name, PGUSER)
  await sql.end()
}
console.log('done')`
	e := newExec(t, cluster, append([]string{
		"--env=BY_PORT=postgres://{user}@{host}:{port}/{database}?sslmode=disable",
		"--env=BY_SOCKET=postgres://{user}@localhost:{port}/{database}?host={socket}",
	}, asIAMUser...), "node", "--input-type=module", "--eval", program)
	e.Dir = drivers
	e.expect(0, "done")
}

// A signal before the command is started ends iamproxy, and the program that it waits for.
func TestExecInterruptedStart(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	e := newExec(t, cluster, asIAMUser, "echo", "started")
	config := filepath.Join(shortTempDir(t), "config")
	writeFile(t, config, []byte("[default]\ncredential_process = sleep 600\n"))
	e.Env = append(bareEnvironment(), "TMPDIR="+e.tmp, "AWS_CONFIG_FILE="+config)
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the socket", func() bool {
		sockets, _ := filepath.Glob(filepath.Join(e.tmp, "iamproxy-*", ".s.PGSQL.5432"))
		return len(sockets) == 1
	})
	if err := e.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	e.expectEnd(143, "")
}

// A signal during --check is no failure of the check.
func TestExecInterruptedCheck(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	e := newExec(t, cluster, append([]string{"--check", "--via=" + silent.Addr().String()}, asIAMUser...), "echo", "started")
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	connection, err := silent.Accept() // of the check
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := e.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	e.expectEnd(143, "")
	if got := e.errors.String(); strings.Contains(got, "do this next:") {
		t.Errorf("printed %s", got)
	}
}

// iamproxy shutdown has the effect of SIGTERM.
func TestExecShutdown(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	admin := conntest.FreeAddress(t)
	e := newExec(t, cluster, append([]string{"--admin=" + admin}, asIAMUser...), "sh", "-c", `trap 'exit 8' TERM; touch "$READY"; while :; do sleep 0.05; done`)
	e.start()
	shutdown := exec.Command(binaryPath(t), "shutdown", "--admin="+admin)
	shutdown.Env = bareEnvironment()
	if out, err := combinedOutput(t, shutdown); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	e.expectEnd(8, "")
}
