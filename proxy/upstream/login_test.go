package upstream

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A server that requests another kind of password receives none, and the error names the kind.
func TestLoginPasswordRequested(t *testing.T) {
	for method, request := range map[string][]byte{
		"MD5":      pgwire.Encode(&pgproto3.AuthenticationMD5Password{}),
		"SCRAM":    pgwire.Encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}),
		"Kerberos": pgwire.Encode(&pgproto3.AuthenticationGSS{}),
		"99":       []byte("R\x00\x00\x00\x08\x00\x00\x00\x63"),
	} {
		conn, server := scripted(request)
		_, err := Login(conn, startup, token)
		if pgwire.ReasonOf(err) != pgwire.PasswordRequested || !strings.Contains(err.Error(), method) || !strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: %v", method, err)
		}
		if !bytes.Equal(server.Out.Bytes(), startup.Encode()) {
			t.Errorf("%s: the server received %q", method, server.Out.Bytes())
		}
	}
}
