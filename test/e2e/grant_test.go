//go:build unix

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

const adminPassword = "Secret'of the administrator"

// startGrantable starts a cluster with an administrator as in RDS: not a superuser, and
// with a password.
func startGrantable(t *testing.T) *aurora.Cluster {
	t.Helper()
	return startGrantableWith(t, nil)
}

func startGrantableWith(t *testing.T, settings map[string]string) *aurora.Cluster {
	t.Helper()
	cluster := startCluster(t, &aurora.Cluster{Settings: settings})
	asSuperuser(t, cluster, "CREATE ROLE postgres LOGIN CREATEROLE PASSWORD "+quoteText(adminPassword))
	return cluster
}

// asSuperuser runs statements over the unix socket.
func asSuperuser(t *testing.T, cluster *aurora.Cluster, statements ...string) {
	t.Helper()
	conn := superuser(t, cluster)
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

func superuser(t *testing.T, cluster *aurora.Cluster) *pgx.Conn {
	t.Helper()
	conn, err := cluster.Admin(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// granted is the result of a run.
type granted struct {
	code           int
	stdout, stderr string
	next           string // the command line at the end of the output
}

// grant runs the binary.
func grant(t *testing.T, cluster *aurora.Cluster, env []string, args ...string) granted {
	t.Helper()
	return startGrant(t, cluster, env, args...).wait(t)
}

// runningGrant is a run in progress.
type runningGrant struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func startGrant(t *testing.T, cluster *aurora.Cluster, env []string, args ...string) *runningGrant {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	all := append([]string{"grant", aurora.DefaultHost, "--via=" + cluster.Addr(), "--ca-file=" + cluster.CAFile()}, args...)
	cmd := exec.CommandContext(ctx, binaryPath(t), all...)
	cmd.Env = bareEnvironment(append([]string{"PGPASSWORD=" + adminPassword}, env...)...)
	r := &runningGrant{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &r.stdout, &r.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *runningGrant) terminate(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func (r *runningGrant) wait(t *testing.T) granted {
	t.Helper()
	var exit *exec.ExitError
	if err := r.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	g := granted{code: r.cmd.ProcessState.ExitCode(), stderr: r.stderr.String()}
	g.stdout, g.next, _ = strings.Cut(r.stdout.String(), "next: ")
	keep(t, "grant", r.stdout.String()+g.stderr)
	return g
}

func (g granted) want(t *testing.T, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n") + "\n"; g.code != 0 || g.stdout != want || g.stderr != "" || !strings.HasPrefix(g.next, "iamproxy check ") {
		t.Errorf("got %+v, want %q", g, want)
	}
}

func (g granted) wantFailure(t *testing.T, texts ...string) {
	t.Helper()
	if g.code != 1 || g.stdout != "" || !strings.HasPrefix(g.stderr, "iamproxy: ") || strings.Count(g.stderr, "\n") != 1 {
		t.Errorf("got %+v, want 1 and one line", g)
	}
	for _, text := range texts {
		if !strings.Contains(g.stderr, text) {
			t.Errorf("printed %q, want %q", g.stderr, text)
		}
	}
}

// Granted users log in through iamproxy. A second run changes nothing.
func TestGrant(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	const weird = `we"ird; drop`
	grant(t, cluster, nil, "--user=app", "--user="+weird).want(t,
		`created role "app"`, `granted rds_iam to "app"`, `created role "`+weird+`"`, `granted rds_iam to "`+weird+`"`)
	grant(t, cluster, nil, "--user=app,"+weird).want(t, `"app" already has rds_iam`, `"`+weird+`" already has rds_iam`)
	asSuperuser(t, cluster, "CREATE ROLE old LOGIN")
	g := grant(t, cluster, nil, "--user=app,old,new", "--give-up-password=old")
	const note = "iamproxy: note: password logins end for \"old\": from now on only tokens are accepted\n"
	if want := "\"app\" already has rds_iam\ngranted rds_iam to \"old\"\ncreated role \"new\"\ngranted rds_iam to \"new\"\n"; g.code != 0 || g.stdout != want || g.stderr != note {
		t.Errorf("got %+v, want %q and %q", g, want, note)
	}

	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	for _, user := range []string{"app", "old", "new"} {
		if out := p.mustPSQL(user, "postgres", "select session_user"); out != user {
			t.Errorf("logged in as %q", out)
		}
	}
	if out := p.mustPSQL(`'we"ird; drop'`, "postgres", "select session_user"); out != weird {
		t.Errorf("logged in as %q", out)
	}
}

// Concurrent runs succeed, and one of them makes the changes. All are held until each is
// about to read the current state.
func TestGrantConcurrently(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	conn := superuser(t, cluster)
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", grantLock); err != nil {
		t.Fatal(err)
	}
	var all [4]granted
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i] = grant(t, cluster, nil, "--user=app,other") })
	}
	until(t, "all of them to wait", func() bool {
		var waiting int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'").Scan(&waiting)
		return err == nil && waiting == len(all)
	})
	conn.Close(t.Context())
	wg.Wait()
	created := 0
	for _, g := range all {
		if g.code != 0 || g.stderr != "" {
			t.Errorf("got %+v", g)
		}
		created += strings.Count(g.stdout, "created role")
	}
	if created != 2 {
		t.Errorf("%d roles created: %+v", created, all)
	}
}

// grantLock is the key of the advisory lock that a run of grant takes.
const grantLock int64 = 0x69616d70726f7879

// A run is atomic: statements before a failure are rolled back.
func TestGrantFailures(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE ROLE asleep NOLOGIN", "CREATE ROLE weak LOGIN PASSWORD "+quoteText(adminPassword),
		"CREATE ROLE token LOGIN CREATEROLE PASSWORD "+quoteText(adminPassword)+" IN ROLE rds_iam")
	grant(t, cluster, nil, "--user=app,asleep").wantFailure(t, `role "asleep" exists and may not log in`, `ALTER ROLE "asleep" LOGIN`)
	grant(t, cluster, nil, "--user=app,public").wantFailure(t, `role name "public" is reserved`)
	grant(t, cluster, nil, "--user=app", "--admin-user=weak").wantFailure(t, "permission denied", `"weak" needs CREATEROLE`)
	grant(t, cluster, nil, "--user=app", "--admin-user=token").wantFailure(t, "authentication failed", "--admin-iam")
	grant(t, cluster, nil, "--user=app", "--admin-user=nobody").wantFailure(t, "password authentication failed", "--admin-user")
	grant(t, cluster, []string{"PGPASSWORD=wrong"}, "--user=app").wantFailure(t, "password authentication failed", "check PGPASSWORD")
	grant(t, cluster, nil, "--user=app", "--database=none").wantFailure(t, `database "none" does not exist`, "--database")

	// A lock held by another session costs no more than --timeout.
	conn := superuser(t, cluster)
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", grantLock); err != nil {
		t.Fatal(err)
	}
	grant(t, cluster, nil, "--user=app", "--timeout=500ms").wantFailure(t, "lock", "--timeout")

	var there bool
	if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app')").Scan(&there); err != nil || there {
		t.Errorf("app was created: %v, %v", there, err)
	}
	asSuperuser(t, cluster, "ALTER ROLE rds_iam RENAME TO other")
	conn.Close(t.Context())
	grant(t, cluster, nil, "--user=app").wantFailure(t, `role "rds_iam" does not exist`)
}

// A grant to a role also affects its members, which can no longer log in with a password.
// If the administrator is one, it is undone.
func TestGrantLockoutUndone(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE ROLE app LOGIN", "GRANT app TO postgres")
	grant(t, cluster, nil, "--user=new,app", "--give-up-password=app").wantFailure(t, "undone", "member of a role")
	var roles int
	conn := superuser(t, cluster)
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_roles WHERE pg_has_role(oid, 'rds_iam', 'member') AND rolname IN ('app', 'new', 'postgres')").Scan(&roles); err != nil || roles != 0 {
		t.Errorf("%d roles have rds_iam: %v", roles, err)
	}
	grant(t, cluster, nil, "--user=new").want(t, `created role "new"`, `granted rds_iam to "new"`)
}

// Nothing is sent to a server that does not authenticate itself.
func TestGrantUntrusted(t *testing.T) {
	t.Parallel()
	for want, certificate := range map[string]aurora.Certificate{
		"is not trusted":        {OtherCA: true},
		"is not for host name ": {Host: "other.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"},
		"is not valid now":      {NotAfter: time.Now().Add(-time.Hour)},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, &aurora.Cluster{Certificate: certificate})
			grant(t, cluster, nil, "--user=app").wantFailure(t, want)
			if log, err := cluster.Log(); err != nil || strings.Contains(log, "user=postgres") {
				t.Errorf("it went on: %v", log)
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go acceptWith(listener, "N")
	cluster := startGrantable(t)
	grant(t, cluster, nil, "--user=app", "--via="+listener.Addr().String()).wantFailure(t, "does not offer TLS")
}

// Of libpq's variables and files only PGPASSWORD counts, and --password-file overrides it.
func TestGrantEnvironment(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		".pgpass":          "*:*:*:*:wrong\n",
		".pg_service.conf": "[s]\nhost=127.0.0.1\nport=1\nuser=nobody\n",
		"password":         adminPassword + "\r\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + dir, "PGSERVICE=s", "PGHOST=127.0.0.1", "PGPORT=1", "PGUSER=nobody", "PGDATABASE=none", "PGSSLMODE=disable",
		"PGOPTIONS=-c role=nobody", "PGSSLROOTCERT=/nonexistent", "PGREQUIREAUTH=none", "PGCHANNELBINDING=disable", "PGTARGETSESSIONATTRS=standby"}
	grant(t, cluster, env, "--user=app").want(t, `created role "app"`, `granted rds_iam to "app"`)
	grant(t, cluster, append(env, "PGPASSWORD=wrong"), "--user=app", "--password-file="+filepath.Join(dir, "password")).want(t, `"app" already has rds_iam`)
	env = append(env, "IAMPROXY_USER=app, more", "IAMPROXY_ADMIN_USER=postgres", "IAMPROXY_DATABASE=mydb")
	grant(t, cluster, env).want(t, `"app" already has rds_iam`, `created role "more"`, `granted rds_iam to "more"`)
}

func TestGrantThroughSOCKS(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	socks := startSOCKS(t, &socksServer{user: socksUser, password: socksPassword, target: cluster.Addr()})
	grant(t, cluster, nil, "--user=app", "--via=socks5://socks_user:socks-pass%3Aword%401@"+socks.address()).want(t, `created role "app"`, `granted rds_iam to "app"`)
	if asked := socks.asked(); len(asked) != 1 || asked[0] != aurora.DefaultHost+":5432" {
		t.Errorf("it was asked for %q", asked)
	}
}

// An administrator with rds_iam may use a token as its password.
func TestGrantWithToken(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "CREATE ROLE boss LOGIN CREATEROLE IN ROLE rds_iam")
	cmd := exec.CommandContext(t.Context(), binaryPath(t), "token", aurora.DefaultHost, "--user=boss")
	cmd.Env = keyEnvironment(aurora.DefaultSessionKey)
	env := []string{"PGPASSWORD=" + tokenOf(t, cmd)}
	grant(t, cluster, env, "--user=app", "--admin-user=boss").want(t, `created role "app"`, `granted rds_iam to "app"`)
}

// acceptWith sends greeting on every connection that listener accepts, reads at most 8
// bytes, and closes it.
func acceptWith(listener net.Listener, greeting string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, greeting)
		_, _ = io.ReadFull(conn, make([]byte, 8))
		conn.Close()
	}
}
