//go:build unix

package aurora

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// LearnToken makes a server without LDAP (see NoLDAP) accept a token. It makes the token
// the password of its user, so that the server accepts it from then on. It returns when the
// server accepts logins.
//
// login has to log in once. While it runs, the server is stopped, and this process replaces
// it at its address and with its certificate. It verifies the token and records a Verdict,
// but rejects the login with 3D000, which clients do not retry. Without a valid token
// LearnToken returns an error, and the server stays stopped.
func (c *Cluster) LearnToken(ctx context.Context, login func()) error {
	if err := c.learnToken(ctx, login); err != nil {
		return fmt.Errorf("aurora: learn a token: %w", err)
	}
	return nil
}

func (c *Cluster) learnToken(ctx context.Context, login func()) error {
	data := c.path(dataDir)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(data, "server.crt"), filepath.Join(data, "server.key"))
	if err != nil {
		return err
	}
	if err := c.Stop(ctx, Fast); err != nil {
		return err
	}
	taken, err := takeLogin(c.Addr(), certificate, login)
	if err != nil {
		return err
	}
	if ok, _ := c.verifier.verify(taken.user, taken.token); !ok {
		return fmt.Errorf("%s sent one that is not valid; Verdicts has the reason", taken.user)
	}
	if err := c.Restart(ctx); err != nil {
		return err
	}
	admin, err := c.Admin(ctx, "postgres")
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	_, err = admin.Exec(ctx, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'",
		pgx.Identifier{taken.user}.Sanitize(), strings.ReplaceAll(taken.token, "'", "''")))
	return err
}

// takenLogin holds the user and password of a login, or why there was none.
type takenLogin struct {
	user, token string
	err         error
}

// takeLogin serves the first client that connects to address while login runs.
func takeLogin(address string, certificate tls.Certificate, login func()) (takenLogin, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return takenLogin{}, err
	}
	taken := make(chan takenLogin, 1)
	go acceptLogin(listener, certificate, taken)
	login()
	listener.Close() // a client that has not connected by now is not waited for
	result := <-taken
	return result, result.err
}

func acceptLogin(listener net.Listener, certificate tls.Certificate, taken chan<- takenLogin) {
	conn, err := listener.Accept()
	if err != nil {
		taken <- takenLogin{err: fmt.Errorf("no login came: %w", err)}
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(startLimit))
	user, token, err := askForToken(conn, certificate)
	taken <- takenLogin{user, token, err}
}

// askForToken speaks as a server does until it has received the password, inside TLS that
// the client may request in either way.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func askForToken(conn net.Conn, certificate tls.Certificate) (user, token string, err error) {
	const handshakeRecord = 0x16
	r := bufio.NewReader(conn)
	first, err := r.Peek(1)
	if err != nil {
		return "", "", err
	}
	if first[0] != handshakeRecord {
		if _, err := r.Discard(8); err != nil { // SSLRequest
			return "", "", err
		}
		if _, err := conn.Write([]byte{'S'}); err != nil {
			return "", "", err
		}
	}
	inside := tls.Server(readAhead{conn, r}, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		NextProtos:   []string{"postgresql"},
	})
	client := pgproto3.NewBackend(inside, inside)
	message, err := client.ReceiveStartupMessage()
	if err != nil {
		return "", "", err
	}
	startup, ok := message.(*pgproto3.StartupMessage)
	if !ok {
		return "", "", fmt.Errorf("%T instead of a startup packet", message)
	}
	user = startup.Parameters["user"]
	if err := client.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return "", "", err
	}
	client.Send(&pgproto3.AuthenticationCleartextPassword{})
	if err := client.Flush(); err != nil {
		return "", "", err
	}
	if message, err = client.Receive(); err != nil {
		return "", "", err
	}
	password, ok := message.(*pgproto3.PasswordMessage)
	if !ok {
		return "", "", errors.New("no password came")
	}
	client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "3D000",
		Message: "the stand-in has learned the token; connect again"})
	return user, password.Password, client.Flush()
}

// readAhead is a connection that is read through a buffer.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c readAhead) Read(b []byte) (int, error) { return c.r.Read(b) }
