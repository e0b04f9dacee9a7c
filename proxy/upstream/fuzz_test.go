package upstream

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// The corpus in testdata has what real servers send, recorded, and inputs that fuzzing has
// found worth keeping.

var (
	authOK = pgwire.Encode(&pgproto3.AuthenticationOk{})
	ready  = pgwire.Encode(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	key    = pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: 4711, SecretKey: []byte{1, 2, 3, 4}})
)

const token = "the token"

func scripted(stream []byte) (*Conn, *conntest.Script) {
	s := conntest.NewScript(stream)
	return &Conn{Conn: netconn.New(s)}, s
}

var startup = pgwire.StartupMessage{Version: 3 << 16, Parameters: []pgwire.Parameter{{Name: "user", Value: "alice"}}}

// FuzzServerLogin checks that the server gets the token only if it requests a cleartext
// password, once, and that the client gets all of the server's messages but that request, in
// order and to the byte, up to the first ReadyForQuery.
func FuzzServerLogin(f *testing.F) {
	request := pgwire.Encode(&pgproto3.AuthenticationCleartextPassword{})
	f.Add(slices.Concat(request, authOK, pgwire.Encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), key, ready, []byte("more")))
	f.Add(slices.Concat([]byte("v\x00\x00\x00\x0f\x00\x03\x00\x02\x00\x00\x00\x01x\x00\x00"), request, authOK, ready))
	f.Add(slices.Concat(request, request))
	f.Add(slices.Concat(request, pgwire.Encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})))
	f.Add(pgwire.Encode(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}))
	f.Add(pgwire.Encode(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		conn, server := scripted(stream)
		result, err := Login(conn, startup, token)
		passwords := bytes.Count(server.Out.Bytes(), pgwire.Encode(&pgproto3.PasswordMessage{Password: token}))
		if want := server.Out.Len() - len(startup.Encode()); passwords > 1 || passwords*len("p....the token.") != want {
			t.Fatalf("the server got %q", server.Out.Bytes())
		}
		want, requested := relayed(stream, err == nil)
		if passwords == 1 && !requested {
			t.Fatal("the server got a token that it had not requested")
		}
		if got := result.StartupReply(); !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
			t.Fatalf("the client gets %q of %q, and %v", got, want, err)
		}
		if err != nil && (&Dialer{}).AsError(err) == nil {
			t.Fatal("no error for the client")
		}
	})
}

// relayed returns what a client is to get of a server's stream, if the login succeeds or if
// that is not known, and whether the server requests a token.
func relayed(stream []byte, succeeds bool) (relayed []byte, requested bool) {
	r := bytes.NewReader(stream)
	for authenticated := false; ; {
		m, err := pgwire.ReadMessage(r)
		if err != nil {
			return relayed, requested
		}
		is := func(method uint32) bool {
			return !authenticated && m.Type() == pgwire.Authentication && len(m.Body()) >= 4 && binary.BigEndian.Uint32(m.Body()) == method
		}
		if is(pgproto3.AuthTypeCleartextPassword) {
			requested = true
		} else {
			relayed = append(relayed, m...)
		}
		if m.Type() == pgwire.ReadyForQuery && authenticated && succeeds {
			return relayed, requested
		}
		authenticated = authenticated || is(pgproto3.AuthTypeOk)
	}
}

// FuzzWritable checks that only a server that accepts writes passes, and that the client gets
// nothing of the query.
func FuzzWritable(f *testing.F) {
	reports := func(standby, readOnly string) []byte {
		return slices.Concat(pgwire.Encode(&pgproto3.ParameterStatus{Name: InHotStandby, Value: standby}), pgwire.Encode(&pgproto3.ParameterStatus{Name: ReadOnlyDefault, Value: readOnly}))
	}
	answers := func(value string) []byte {
		return slices.Concat(pgwire.Encode(&pgproto3.RowDescription{}), pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{[]byte(value)}}), pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}), ready)
	}
	f.Add(slices.Concat(reports("off", "off"), ready))
	f.Add(slices.Concat(reports("on", "off"), ready))
	f.Add(slices.Concat(reports("off", "on"), ready, answers("f")))
	f.Add(slices.Concat(ready, answers("t")))
	f.Add(slices.Concat(ready, pgwire.Encode(&pgproto3.NoticeResponse{Message: "n"}), answers("f")))
	f.Add(slices.Concat(ready, pgwire.Encode(&pgproto3.ErrorResponse{Code: "57014"}), ready))
	f.Fuzz(func(t *testing.T, stream []byte) {
		stream = slices.Concat(authOK, stream)
		conn, server := scripted(stream)
		result, err := Login(conn, startup, token)
		if err != nil {
			return
		}
		if CheckWritable(conn, result) != nil {
			return
		}
		queried := bytes.Contains(server.Out.Bytes(), []byte("pg_is_in_recovery"))
		switch {
		case result.Parameters[InHotStandby] == "on":
			t.Fatal("a standby passes")
		case !queried && (result.Parameters[InHotStandby] != "off" || result.Parameters[ReadOnlyDefault] != "off"):
			t.Fatalf("passes with %v reported", result.Parameters)
		}
		if want := withoutAnswer(stream, queried); !bytes.Equal(result.StartupReply(), want) {
			t.Fatalf("the client gets %q, want %q", result.StartupReply(), want)
		}
	})
}

// withoutAnswer returns what a client is to get of a server's stream: all up to
// ReadyForQuery, and if there was a query then, what is not its answer.
func withoutAnswer(stream []byte, queried bool) []byte {
	r := bytes.NewReader(stream)
	var before, ready []byte
	for {
		m, err := pgwire.ReadMessage(r)
		switch {
		case err != nil, m.Type() == pgwire.ReadyForQuery && (!queried || ready != nil):
			if ready == nil {
				ready = m
			}
			return append(before, ready...)
		case m.Type() == pgwire.ReadyForQuery:
			ready = m
		case ready == nil || m.Type() == pgwire.ParameterStatus || m.Type() == pgwire.NoticeResponse:
			before = append(before, m...)
		}
	}
}

// FuzzTLSAnswer checks that only an S in answer to an SSLRequest offers TLS, and that what
// follows is left for the handshake.
func FuzzTLSAnswer(f *testing.F) {
	for _, answer := range []string{"S", "N", "E\x00\x00\x00\x05\x00", "SR\x00\x00\x00\x08\x00\x00\x00\x03", "HTTP/1.1 400 Bad Request", ""} {
		f.Add([]byte(answer))
	}
	request := pgwire.Encode(&pgproto3.SSLRequest{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		conn, server := scripted(answer)
		err := (&Dialer{Endpoint: "db:5432"}).requestTLS(t.Context(), conn)
		if offered := len(answer) > 0 && answer[0] == 'S'; offered != (err == nil) {
			t.Fatalf("%q: %v", answer, err)
		}
		if !bytes.Equal(server.Out.Bytes(), request) || len(answer) > 0 && server.In.Len() != len(answer)-1 {
			t.Fatalf("sent %q, %d bytes of %d are left", server.Out.Bytes(), server.In.Len(), len(answer))
		}
	})
}
