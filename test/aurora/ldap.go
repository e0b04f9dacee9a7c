//go:build unix

package aurora

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
)

const (
	// maxMessage bounds a request. PostgreSQL accepts passwords of up to 64 KiB.
	maxMessage = 1 << 20
	// ldapIdle bounds the time between requests on a connection.
	ldapIdle = 30 * time.Second
)

// ldapServer answers the simple binds of LDAPv3 (RFC 4511 section 4.2), by which PostgreSQL
// verifies a password.
type ldapServer struct {
	listener net.Listener
	bind     func(ctx context.Context, dn, password string) bool
	ctx      context.Context // ends with close
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// startLDAP serves on a loopback port. bind reports whether the owner of dn has this
// password. It must return when ctx ends.
func startLDAP(bind func(ctx context.Context, dn, password string) bool) (*ldapServer, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, err
	}
	s := &ldapServer{listener: listener, bind: bind}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.accept)
	return s, nil
}

func (s *ldapServer) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// close closes the listener and all connections, and waits for them.
func (s *ldapServer) close() {
	s.cancel()
	s.listener.Close()
	s.running.Wait()
}

func (s *ldapServer) accept() {
	for {
		conn, err := s.listener.Accept()
		switch {
		case err == nil:
			s.running.Go(func() { s.serve(conn) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// A lack of file descriptors, for example: retry, but not in a tight loop.
			select {
			case <-time.After(10 * time.Millisecond):
			case <-s.ctx.Done():
				return
			}
		}
	}
}

// serve answers one connection until it ends, unbinds or violates the protocol.
func (s *ldapServer) serve(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	r := bufio.NewReader(conn)
	for {
		_ = conn.SetDeadline(time.Now().Add(ldapIdle)) // fails if closed, as does what follows
		message, err := ber.ReadPacket(io.LimitReader(r, maxMessage))
		var netErr net.Error
		if errors.Is(err, io.EOF) || errors.As(err, &netErr) {
			return // closed, or idle for too long
		}
		id, operation, ok := openMessage(message)
		if err != nil || !ok {
			_, _ = conn.Write(disconnection()) // the connection is closed anyway
			return
		}
		if operation.ClassType == ber.ClassApplication && operation.Tag == opUnbindRequest {
			return
		}
		request, ok := readBind(operation)
		if !ok {
			_, _ = conn.Write(disconnection()) // the connection is closed anyway
			return
		}
		code := s.answer(request)
		// bind may have taken long.
		_ = conn.SetDeadline(time.Now().Add(ldapIdle))
		if _, err := conn.Write(bindResponse(id, code)); err != nil {
			return
		}
	}
}

// answer returns the result code for a bind.
func (s *ldapServer) answer(r bindRequest) int64 {
	switch {
	case r.version != 3:
		return resultProtocolError
	case !r.simple:
		return resultAuthMethodNotSupported
	case r.password == "":
		// An unauthenticated bind (RFC 4513 section 5.1.2) must not pass for a login.
		return resultUnwillingToPerform
	case s.bind(s.ctx, r.name, r.password):
		return resultSuccess
	default:
		return resultInvalidCredentials
	}
}
