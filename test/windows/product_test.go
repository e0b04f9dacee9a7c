//go:build linux

package windows

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// place is a cluster and an AWS that permits the logins of a role.
type place struct {
	*wine
	cluster aurora.Cluster
	aws     fakeaws.AWS
}

func startPlace(t *testing.T) *place {
	t.Helper()
	const role = "arn:aws:sts::111122223333:assumed-role/app/windows"
	p := &place{wine: startWine(t)}
	if err := p.aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.aws.Close() })
	p.aws.AddKey(aurora.DefaultSessionKey, role)
	p.aws.Allow(role, "rds:Describe*", "iam:SimulatePrincipalPolicy", "rds-db:connect")
	p.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: true})
	if err := p.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cluster.Close() })
	return p
}

// run runs the binary with a role's credentials to its end, and returns its output.
func (p *place) run(t *testing.T, code int, args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := p.iamproxy(ctx, p.credentials(), args...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("iamproxy %s: exit code %d, want %d; %s%s", strings.Join(args, " "), got, code, out.String(), errors.String())
	}
	return out.String()
}

// credentials returns the environment that leads the binary to the place.
func (p *place) credentials() []string {
	return append(sidecar.ClusterEnvironment(&p.cluster),
		"AWS_ENDPOINT_URL_STS="+p.aws.URL()+"/sts", "AWS_ENDPOINT_URL_RDS="+p.aws.URL()+"/rds", "AWS_ENDPOINT_URL_IAM="+p.aws.URL()+"/iam")
}

// server is a running binary.
type server struct {
	*exec.Cmd
	listen, admin string

	mu  sync.Mutex
	log bytes.Buffer
}

// Write appends to the log.
func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *server) logs(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.log.String(), text)
}

// serve starts the binary, and waits until it is ready.
func (p *place) serve(t *testing.T) *server {
	t.Helper()
	s := &server{listen: conntest.FreeAddress(t), admin: conntest.FreeAddress(t)}
	s.Cmd = p.iamproxy(t.Context(), p.credentials(), "run", aurora.DefaultHost, "--listen", s.listen, "--admin", s.admin, "--listen-tls", "self-signed", "--log-format", "json")
	s.Stdout, s.Stderr = s, s
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Process.Kill()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	p.run(t, 0, "wait", "--admin", s.admin, "--timeout", limit.String())
	return s
}

// expectStop waits for the end of the process.
func (s *server) expectStop(t *testing.T) {
	t.Helper()
	if err := s.Wait(); err != nil {
		t.Errorf("iamproxy ended: %v", err)
	}
	if !s.logs(`"msg":"stopped"`) {
		t.Error("the log has no line about the end")
	}
}

func (s *server) conninfo(more string) string {
	host, port, _ := net.SplitHostPort(s.listen)
	return "host=" + host + " port=" + port + " user=" + aurora.IAMUser + " dbname=" + aurora.Database + " " + more
}

// psql runs Linux's psql.
func psql(t *testing.T, env []string, conninfo string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "psql", append([]string{"-XAtqw", conninfo}, args...)...)
	cmd.Env = append(sidecar.Environment(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestVersion(t *testing.T) {
	w := startWine(t)
	out, err := w.iamproxy(t.Context(), nil, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "iamproxy ") {
		t.Errorf("printed %q, %v", out, err)
	}
}

// Clients log in with and without TLS, and copy data in both directions.
func TestServe(t *testing.T) {
	p := startPlace(t)
	s := p.serve(t)
	for _, mode := range []string{"disable", "require"} { // in this order: the log has TLS from the second one on
		conninfo := s.conninfo("sslmode=" + mode)
		if got := psql(t, nil, conninfo, "-c", "select current_user, ssl, version from pg_stat_ssl where pid = pg_backend_pid()"); got != aurora.IAMUser+"|t|TLSv1.3" {
			t.Errorf("sslmode=%s: got %s", mode, got)
		}
		if got := s.logs(`"client_tls":"TLS 1.3"`); got != (mode == "require") {
			t.Errorf("sslmode=%s: TLS %v", mode, got)
		}
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		data := bytes.Repeat([]byte("a line of a file that is copied through iamproxy\n"), 400_000) // 20 MB
		if err := os.WriteFile(from, data, 0o600); err != nil {
			t.Fatal(err)
		}
		psql(t, nil, conninfo, "-c", "create table copied_"+mode+" (line text)", "-c", `\copy copied_`+mode+` from '`+from+`'`, "-c", `\copy copied_`+mode+` to '`+to+`'`)
		if copied, err := os.ReadFile(to); err != nil || !bytes.Equal(copied, data) {
			t.Errorf("sslmode=%s: %d bytes were copied, %v", mode, len(copied), err)
		}
	}
	p.run(t, 0, "shutdown", "--admin", s.admin)
	s.expectStop(t)
}

// A shutdown, and Ctrl-C of the console, let sessions go on and reject new clients.
func TestDrain(t *testing.T) {
	p := startPlace(t)
	for name, request := range map[string]func(s *server){
		"shutdown": func(s *server) { p.run(t, 0, "shutdown", "--admin", s.admin) },
		"Ctrl-C":   func(s *server) { _ = s.Process.Signal(os.Interrupt) }, // Wine makes it a Ctrl-C
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := p.serve(t)
			open, err := pgx.Connect(ctx, s.conninfo("sslmode=disable"))
			if err != nil {
				t.Fatal(err)
			}
			request(s)
			for err == nil { // until the drain has begun
				var early *pgx.Conn
				if early, err = pgx.Connect(ctx, s.conninfo("sslmode=disable")); err == nil {
					early.Close(ctx)
				}
			}
			if !strings.Contains(err.Error(), "57P03") {
				t.Errorf("a new client got %v", err)
			}
			if _, err := open.Exec(ctx, "select 1"); err != nil {
				t.Errorf("the open session: %v", err)
			}
			open.Close(ctx)
			s.expectStop(t)
		})
	}
}

// The ends of sessions, and the errors of logins, have the words that they have on Linux.
func TestErrors(t *testing.T) {
	p := startPlace(t)
	s := p.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !s.logs(`"by":"client","how":"reset"`) { // Wine reports a reset only to a read that waits
		conn, err := pgx.Connect(ctx, s.conninfo("sslmode=disable"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, "select 1"); err != nil {
			t.Fatal(err)
		}
		tcp := conn.PgConn().Conn().(*net.TCPConn)
		_ = tcp.SetLinger(0)
		tcp.Close()
	}
	p.run(t, 0, "shutdown", "--admin", s.admin)
	s.expectStop(t)

	out := p.run(t, 1, "check", aurora.DefaultHost, "--user", aurora.IAMUser, "--database", aurora.Database, "--via", conntest.ClosedAddress(t))
	if !strings.Contains(out, "connection refused") {
		t.Errorf("check printed %s", out)
	}
}

func TestCheck(t *testing.T) {
	p := startPlace(t)
	p.run(t, 0, "check", aurora.DefaultHost, "--user", aurora.IAMUser, "--database", aurora.Database)
}

// The token is a password of the database.
func TestToken(t *testing.T) {
	p := startPlace(t)
	token := strings.TrimSpace(p.run(t, 0, "token", aurora.DefaultHost, "--user", aurora.IAMUser))
	host, port, _ := net.SplitHostPort(p.cluster.Addr())
	if got := psql(t, []string{"PGPASSWORD=" + token}, "sslmode=require user="+aurora.IAMUser+" dbname="+aurora.Database+" host="+host+" port="+port, "-c", "select 1"); got != "1" {
		t.Errorf("got %s", got)
	}
}

// A command is found by its name without .exe, gets the variables of libpq, and reaches iamproxy.
// Its exit code is that of iamproxy.
func TestExec(t *testing.T) {
	p := startPlace(t)
	args := []string{"exec", aurora.DefaultHost, "--user", aurora.IAMUser, "--database", aurora.Database, "--listen", conntest.FreeAddress(t)}
	printed := p.run(t, 7, slices.Concat(args, []string{"--", "cmd", "/c", "set PG&exit 7"})...)
	for _, want := range []string{"PGHOST=127.0.0.1", "PGUSER=" + aurora.IAMUser, "PGDATABASE=" + aurora.Database} {
		if !strings.Contains(printed, want) {
			t.Errorf("the environment has no %s: %s", want, printed)
		}
	}
	p.run(t, 0, slices.Concat(args, []string{"--", p.binary, "wait", "--admin", "off", "--listen", args[len(args)-1]})...)
	p.run(t, 127, slices.Concat(args, []string{"--", "no-such-program"})...)
}
