package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// tokens are token-0, token-1 and so on: the next one after each refusal.
type tokens struct {
	serial int
	err    error
}

func (k *tokens) Token(context.Context, string) (string, error) {
	return fmt.Sprintf("token-%d", k.serial), k.err
}

func (k *tokens) Invalidate(string, string) bool {
	k.serial++
	return true
}

// adviceError is an error with a hint.
type adviceError struct{ error }

func (e adviceError) Unwrap() error { return e.error }
func (adviceError) Advice() string  { return "run aws sso login" }

// server is a PostgreSQL server in memory. Its scripts begin after the startup packet.
type server struct {
	*pgproto3.Backend
	conn    net.Conn // without TLS
	startup map[string]string
	tokens  []string
	logins  int
}

// startServer returns the dialer of a server that runs each script for one connection, and
// the last one for all further connections. It is called outside a bubble of synctest.
func startServer(t *testing.T, scripts ...func(*server)) (*server, *upstream.Dialer) {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	config := &tls.Config{Certificates: certified.TLS.Certificates}
	s := &server{}
	return s, &upstream.Dialer{
		Endpoint: host + ":5432",
		TLS:      &tls.Config{RootCAs: roots, ServerName: "example.com"},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			script := scripts[min(s.logins, len(scripts)-1)]
			s.logins++
			go s.serve(far, config, script)
			return near, nil
		},
	}
}

func (s *server) serve(conn net.Conn, config *tls.Config, script func(*server)) {
	defer conn.Close()
	if _, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage(); err != nil { // SSLRequest
		return
	}
	if _, err := conn.Write([]byte{'S'}); err != nil {
		return
	}
	secure := tls.Server(conn, config)
	s.conn, s.Backend = conn, pgproto3.NewBackend(secure, secure)
	message, err := s.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if startup, ok := message.(*pgproto3.StartupMessage); ok {
		s.startup = startup.Parameters
	}
	script(s)
	_, _ = io.Copy(io.Discard, conn)
}

func (s *server) send(messages ...pgproto3.BackendMessage) {
	for _, m := range messages {
		s.Send(m)
	}
	_ = s.Flush()
}

func (s *server) receiveToken() {
	s.send(&pgproto3.AuthenticationCleartextPassword{})
	if m, err := s.Receive(); err == nil {
		if password, ok := m.(*pgproto3.PasswordMessage); ok {
			s.tokens = append(s.tokens, password.Password)
		}
	}
}

func hangUp(s *server) { s.conn.Close() }

func staySilent(s *server) { _, _ = s.Receive() }

func requestSCRAM(s *server) {
	s.send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
}

func startingUp(s *server) {
	s.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
}

func refuseToken(s *server) {
	s.receiveToken()
	s.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
}

func missingDatabase(s *server) {
	s.receiveToken()
	s.send(&pgproto3.AuthenticationOk{}, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Message: `database "postgres" does not exist`})
}

// accept logs the client in, and answers each query of a step.
func accept(s *server) {
	s.receiveToken()
	s.send(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "17.2"},
		&pgproto3.ParameterStatus{Name: "default_transaction_read_only", Value: "on"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	for {
		m, err := s.Receive()
		if err != nil {
			return
		}
		query, ok := m.(*pgproto3.Query)
		if !ok {
			return
		}
		value := "t"
		switch {
		case strings.Contains(query.String, "pg_is_in_recovery"):
			value = "f"
		case strings.Contains(query.String, "current_user"):
			value = "owner"
		}
		s.send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("value")}}}, &pgproto3.DataRow{Values: [][]byte{[]byte(value)}},
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

// A login is retried while the server restarts, and once with a new token. The steps after it
// use its connection.
func TestLogin(t *testing.T) {
	s, dialer := startServer(t, hangUp, startingUp, refuseToken, accept)
	synctest.Test(t, func(t *testing.T) {
		r := newRun("app")
		r.Dialer, r.Tokens = dialer, &tokens{}
		defer r.close()
		for _, step := range []struct {
			do    func(context.Context) result
			found string
		}{
			{r.login, `logged in to database "postgres", PostgreSQL 17.2, current role "owner"`},
			{r.rdsIAM, `user "app" is a member`},
			{r.writes, "writable, but transactions are read-only by default (default_transaction_read_only)"},
			{r.roundTrip, "0.00 ms (median of 5)"},
		} {
			if res := step.do(t.Context()); res.state != OK || res.found != step.found {
				t.Fatalf("got %+v, want %q", res, step.found)
			}
		}
		if r.seen.login != accepted || !slices.Equal(s.tokens, []string{"token-0", "token-1"}) {
			t.Errorf("%s with the tokens %q", r.seen.login, s.tokens)
		}
		if p := s.startup; len(p) != 3 || p["user"] != "app" || p["database"] != "postgres" || p["application_name"] != "iamproxy check" {
			t.Errorf("the startup packet has %v", p)
		}
	})
}

// The reason of a failed login is that of the last attempt, or of one that says more.
func TestLoginFails(t *testing.T) {
	for name, test := range map[string]struct {
		script func(*server)
		tokens tokens
		login  outcome
		reason string
		found  string
		next   string
		logins int           // at least
		within time.Duration // 0: no pause between them
	}{
		"no token":           {accept, tokens{err: adviceError{errors.New("the SSO session has expired")}}, otherError, "no_token", "no token for user \"app\": the SSO session has expired", "# run aws sso login", 0, 0},
		"token timeout":      {accept, tokens{err: fmt.Errorf("waiting: %w", context.DeadlineExceeded)}, otherError, "token_timeout", "no token for user \"app\" in time", "# ", 0, 0},
		"password requested": {requestSCRAM, tokens{}, passwordRequested, "password_requested", "server requested SCRAM authentication for user \"app\" instead of a token: ", "# Check the name of the user: ", 1, 0},
		"token refused":      {refuseToken, tokens{}, tokenRefused, "token_refused", "PAM authentication failed (28000): ", "iamproxy policy ", 2, 0},
		"no such database":   {missingDatabase, tokens{}, otherError, "server_refused", `database "postgres" does not exist (3D000)`, "# Pass an existing database ", 1, 0},
		"starting up":        {startingUp, tokens{}, otherError, "server_refused", "the database system is starting up (57P03)", "iamproxy check ", 3, stepTimeout},
		"connection closed":  {hangUp, tokens{}, otherError, "connection_closed", host + ":5432 closed the connection during login", "# ", 3, stepTimeout / 2},
		"no answer":          {staySilent, tokens{}, otherError, "no_answer", "no answer from " + host + ":5432 in time", "# The server accepted the connection ", 1, stepTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			s, dialer := startServer(t, test.script)
			synctest.Test(t, func(t *testing.T) {
				r := newRun("app")
				r.Dialer, r.Tokens = dialer, &test.tokens
				began := time.Now()
				res := r.runStep(t.Context(), (*run).login)
				if r.seen.login != test.login || res.state != Failed || res.reason != test.reason || !strings.HasPrefix(res.found, test.found) || !strings.HasPrefix(res.next, test.next) {
					t.Errorf("%s, %+v", r.seen.login, res)
				}
				if took := time.Since(began); s.logins < test.logins || took > test.within {
					t.Errorf("%d logins in %v, want %d in %v", s.logins, took, test.logins, test.within)
				}
			})
		})
	}
}
