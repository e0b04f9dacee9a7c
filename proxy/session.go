package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/stats"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// maxName is the number of bytes that a server keeps of the name of a role, a database or an
// application.
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
const maxName = 63

// session is a client's connection, from its first byte to its last. Its steps, in their
// order:
//
//	pending.add             wait until there is room for one more connection (proxy.go, pending.go)
//	serve
//	  checkAccess           the client's address and user (admission.go)
//	  rejectUnauthorized    or the client may not connect (reject.go)
//	  readStartup
//	    receiveStartup      TLS if the client requests it, then the startup packet (handshake.go)
//	    ClientAuth.check    whether the client must use TLS, and its certificate (clientauth.go)
//	    admit               limits, and whether the proxy drains (admission.go)
//	  forwardCancel         or the packet is a CancelRequest, which needs no admission (cancel.go)
//	  login
//	    startupMessage      what the client requests
//	    ClientAuth.checkUser  whether the certificate names the user (clientauth.go)
//	    connect
//	      reuseConn         a connection of the pool (pooling.go, pool)
//	      connectWithRetry  or a new one, until an attempt succeeds or none can (connect.go, retry)
//	        attempt         connect (upstream) while the token is fetched
//	          Login         startup message, token, messages up to ReadyForQuery (upstream/login.go)
//	          CheckWritable whether the instance accepts writes, if it must (upstream/writable.go)
//	    sendStartupReply    the server's messages to the client
//	  relay                 copy both ways until one side ends (relay.go, relay)
//	    Start               on an event loop (netconn/loop_linux.go)
//	    finishRelay         and the rest in two goroutines
//	    release             or until the client leaves its connection to the pool (pooling.go, pool/release.go)
//	  recordUnanswerable    or encryption was declined or failed: record it, send nothing (declined.go)
//	  reject                or another step has failed: send the error to the client (reject.go)
type session struct {
	proxy  *Proxy
	id     uint64
	peer   string // the client's address
	client *netconn.Conn
	began  time.Time

	declinedAt time.Time // the last request for encryption that was declined
	pending    *pendingConn
	evicted    bool
	admitted   bool
	limited    bool // has a place in Proxy.Limit
	admittedAt time.Time

	user, database  string // of the login
	applicationName string // of the startup message

	timings   stats.LoginTimings
	lastError error // the most informative one of the failed attempts
	delayed   bool  // a pause before a retry has delayed the client

	cancelTarget *cancel.Target // nil if the client has no cancel key
	pooled       *pool.Conn     // the server's connection; nil if it cannot be reused
	reused       bool           // another client used the connection before

	up, down atomic.Int64 // bytes so far, to the server and from it
}

func (p *Proxy) newSession(client net.Conn) *session {
	return &session{
		proxy:  p,
		id:     p.lastID.Add(1),
		peer:   peerAddress(client),
		client: netconn.New(client),
		began:  time.Now(),
	}
}

// peerAddress returns the client's address. A client of a unix socket has none: it is that
// of the socket.
func peerAddress(client net.Conn) string {
	if _, ok := client.(*net.UnixConn); ok {
		return "unix:" + client.LocalAddr().String()
	}
	return client.RemoteAddr().String()
}

// serve handles a connection up to its session.
func (p *Proxy) serve(s *session) {
	if denied := p.checkAccess(s); denied != nil {
		p.admission.pending.remove(s.pending)
		s.rejectUnauthorized(denied)
		s.end()
		return
	}
	if server := s.establish(); server != nil {
		s.relay(server)
		return
	}
	s.end()
}

// establish returns the server's connection of the session, or nil if there is to be none: then
// the client has been sent the reason.
func (s *session) establish() *upstream.Conn {
	packet, err := s.readStartup()
	switch {
	case err != nil:
		s.handshakeFailed(err)
		return nil
	case packet.Code == pgwire.CancelRequest:
		s.forwardCancel(packet)
		return nil
	}
	server, err := s.login(packet)
	if err != nil {
		s.reject(err)
		return nil
	}
	return server
}

// readStartup returns the client's startup packet. The client is admitted then, or the
// packet is a CancelRequest.
func (s *session) readStartup() (pgwire.StartupPacket, error) {
	defer s.proxy.admission.startups.Done()
	packet, err := s.receiveStartup(s.proxy.connectTimeout(), s.proxy.admission.clientTLS)
	var denied error
	if err == nil && packet.Code != pgwire.CancelRequest {
		if denied = s.proxy.ClientAuth.check(s); denied == nil {
			denied = s.proxy.admit(s) // may wait, and the connection is pending meanwhile
		}
	}
	left := errors.Is(err, pgwire.ErrNoStartup) && !netconn.IsTimeout(err)
	stayed := s.proxy.admission.pending.remove(s.pending)
	s.pending = nil
	if !stayed && err != nil && !left {
		s.evicted = true
		return packet, s.proxy.evictedError(err)
	}
	return packet, cmp.Or(err, denied)
}

// end removes the session from all lists, and closes the client's connection.
func (s *session) end() {
	s.removeCancelKey()
	if s.admitted {
		s.proxy.removeSession(s)
		s.proxy.sessions.done()
	}
	s.client.Close()
	s.client.Socket().Close()
	s.proxy.handlers.Done()
}

// login returns a connection to the server that is ready for queries. The client has been
// sent the server's startup reply.
func (s *session) login(packet pgwire.StartupPacket) (*upstream.Conn, error) {
	startup, err := s.startupMessage(packet)
	if err != nil {
		return nil, err
	}
	if err := s.proxy.ClientAuth.checkUser(s); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(s.proxy.connectTimeout())
	s.client.SetDeadline(deadline)
	server, reply, err := s.connect(startup, deadline)
	switch {
	case err != nil && s.proxy.ctx.Err() != nil:
		return nil, errShuttingDown // the cause of any other error
	case err != nil:
		return nil, err
	}
	if err := s.sendStartupReply(reply, deadline); err != nil {
		s.discard(server)
		return nil, err
	}
	s.client.SetDeadline(time.Time{})
	server.SetDeadline(time.Time{})
	return server, nil
}

// startupMessage returns what the client requests, with the proxy's own user and database, and
// with names as the server truncates them.
// Everything else is forwarded as it came, unknown protocol versions and options included:
// the server decides about them.
func (s *session) startupMessage(packet pgwire.StartupPacket) (pgwire.StartupMessage, error) {
	if packet.Major() != 3 {
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.ProtocolUnsupported, nil, packet.Major(), packet.Minor())
	}
	startup, err := pgwire.ParseStartupMessage(packet)
	if err != nil {
		return pgwire.StartupMessage{}, err
	}
	if s.proxy.User != "" {
		startup.Set("user", s.proxy.User)
	}
	if s.proxy.Database != "" {
		startup.Set("database", s.proxy.Database)
	}
	// The server truncates longer names, too, and compares the token with the rest. CREATE ROLE and
	// CREATE DATABASE have truncated them between two characters.
	for _, parameter := range []string{"user", "database"} {
		if name := startup.Get(parameter); len(name) > maxName {
			startup.Set(parameter, truncateName(name))
		}
	}
	s.user, s.database = startup.Get("user"), startup.Get("database")
	switch {
	case s.user == "":
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.UserMissing, nil)
	case len(startup.Encode()) > pgwire.MaxStartupPacket:
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.StartupTooLong, nil)
	}
	s.applicationName = truncate(startup.Get("application_name"), maxName)
	return startup, nil
}

// truncateName returns the first bytes of a name that a server keeps. Those that are not UTF-8 are
// of a character set of the client.
func truncateName(name string) string {
	if !utf8.ValidString(name) {
		return name[:min(len(name), maxName)]
	}
	return truncate(name, maxName)
}

// truncate cuts text to a number of bytes, but not within a character.
func truncate(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
}

// connect returns a connection that is logged in, of the pool or a new one, and the messages
// for the client. The client's cancel key is registered.
func (s *session) connect(startup pgwire.StartupMessage, deadline time.Time) (server *upstream.Conn, reply []byte, err error) {
	if s.pooled = s.reuseConn(startup); s.pooled != nil {
		s.reused = true
		return s.pooled.Conn, s.pooledReply(), nil
	}
	ctx, cancel := context.WithDeadline(s.proxy.ctx, deadline)
	defer cancel()
	server, result, err := s.connectWithRetry(ctx, startup)
	if err != nil {
		return nil, nil, err
	}
	reply = result.StartupReply()
	if s.pooled = s.makeReusable(server, startup, reply); s.pooled != nil {
		return server, s.pooledReply(), nil
	}
	s.addCancelKey(result.Key, result.Key, server.Address)
	return server, reply, nil
}

// sendStartupReply sends the server's messages to the client, as they came: all of them up
// to the first ReadyForQuery. A login that ends just before the deadline is sent after it.
func (s *session) sendStartupReply(reply []byte, deadline time.Time) error {
	if grace := time.Now().Add(lingerTime); grace.After(deadline) {
		s.client.SetWriteDeadline(grace)
	}
	if _, err := s.client.Write(reply); err != nil {
		return fmt.Errorf("%w: %w", errClientDisconnected, err)
	}
	return nil
}

// event returns the field of a log line that the console shows as an event of the session.
func (s *session) event(action logging.Action, details func() []string) zap.Field {
	return logging.ForConsole(func() logging.Event {
		subject := s.peer
		if s.user != "" {
			subject = s.user + "@" + cmp.Or(s.database, s.user)
		}
		return logging.Event{Subject: subject, Action: action, Details: details()}
	})
}

// log writes a line with the session's fields. They are not those of a logger: zap would encode
// them into memory that the logger keeps, and each line has its own.
func (s *session) log(level zapcore.Level, message string, fields ...zap.Field) {
	log := s.proxy.logger
	if !log.Core().Enabled(level) {
		return
	}
	all := append(make([]zap.Field, 0, 4+len(fields)), zap.Uint64("session", s.id), zap.String("client", s.peer))
	if s.user != "" {
		all = append(all, zap.String("user", s.user), logging.OptionalString("database", s.database))
	}
	log.Log(level, message, append(all, fields...)...)
}

// logSampled writes a line, unless there were many of its kind. err is the *pgwire.Error or
// *pgwire.ServerError that the line is about, or nil.
func (s *session) logSampled(level zapcore.Level, message string, err error, fields ...zap.Field) {
	kind := logging.Kind{Level: level, Message: message, Reason: string(pgwire.ReasonOf(err)), SQLSTATE: pgwire.SQLSTATE(err)}
	s.proxy.sampler.Log(s.proxy.logger.Core(), s.log, kind, fields...)
}
