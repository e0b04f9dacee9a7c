//go:build unix

package e2e

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// rawSession is a session of a client that uses any version of the protocol.
type rawSession struct {
	t          *testing.T
	conn       net.Conn
	frontend   *pgproto3.Frontend
	negotiated *pgproto3.NegotiateProtocolVersion // nil: the server accepted the version
	key        pgproto3.BackendKeyData
}

// startRaw logs in through p and returns when the server is ready.
func startRaw(t *testing.T, p *process, version uint32, options []string) *rawSession {
	t.Helper()
	return logInRaw(t, dial(t, p.listens[0]), version, options, "")
}

// logInRaw logs in over conn, with a password if it is not empty.
func logInRaw(t *testing.T, conn net.Conn, version uint32, options []string, password string) *rawSession {
	t.Helper()
	s := &rawSession{t: t, conn: conn, frontend: pgproto3.NewFrontend(conn, conn)}
	startup := &pgproto3.StartupMessage{ProtocolVersion: version,
		Parameters: map[string]string{"user": aurora.IAMUser, "database": aurora.Database}}
	for _, option := range options {
		startup.Parameters[option] = ""
	}
	s.send(startup)
	if password != "" {
		s.send(&pgproto3.PasswordMessage{Password: password})
	}
	if _, code := s.untilReady(); code != "" {
		t.Fatalf("no login: %s", code)
	}
	return s
}

func (s *rawSession) send(message pgproto3.FrontendMessage) {
	s.t.Helper()
	s.frontend.Send(message)
	if err := s.frontend.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// untilReady reads until the server is ready for a query. It returns the first value of the
// last row and the code of the last error.
func (s *rawSession) untilReady() (value, code string) {
	s.t.Helper()
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			s.t.Fatal(err)
		}
		switch m := message.(type) {
		case *pgproto3.NegotiateProtocolVersion:
			s.negotiated = &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: m.NewestMinorProtocol,
				UnrecognizedOptions: slices.Clone(m.UnrecognizedOptions)}
		case *pgproto3.BackendKeyData:
			s.key = pgproto3.BackendKeyData{ProcessID: m.ProcessID, SecretKey: slices.Clone(m.SecretKey)}
		case *pgproto3.DataRow:
			value = string(m.Values[0])
		case *pgproto3.ErrorResponse:
			code = m.Code
			keep(s.t, "an error of a client", m.Message+m.Detail+m.Hint)
			if m.Severity == "FATAL" {
				s.t.Fatalf("%s: %s", m.Code, m.Message)
			}
		case *pgproto3.ReadyForQuery:
			return value, code
		}
	}
}

// cancelRaw sends a cancel request with this key, and returns when it has had its effect,
// if any. It may run on any goroutine.
func cancelRaw(t *testing.T, p *process, key pgproto3.BackendKeyData) {
	t.Helper()
	request, err := (&pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey}).Encode(nil)
	if err != nil {
		t.Error(err)
		return
	}
	conn, err := net.Dial("tcp", p.listens[0])
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write(request); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("the answer to a cancel request is %q, %v", rest, err)
	}
}
