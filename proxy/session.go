package proxy

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// hintTimeout bounds the wait for what is only advice.
const hintTimeout = 5 * time.Second

// maxApplication is how many bytes of an application_name a server keeps.
// https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME
const maxApplication = 63

// session is one client's connection, from its first byte to its last. Its
// steps stand below in their order:
//
//	enter                   accept, as soon as there is room for one more (proxy.go, arrivals.go)
//	serve                   what to do with what the client wants
//	  turnStrangerAway      or it may not connect (limit.go)
//	  receiveStartup        TLS if the client wants it, then the startup packet (encryption.go)
//	  admit                 whether there is room for it (proxy.go, limit.go)
//	  cancel                or a CancelRequest instead (cancel.go)
//	  logIn
//	    wish                what the client asks for
//	    reuse               or, of --pool, a connection that another client has left (reuse.go, pool.go)
//	    connectWithRetry    until an attempt succeeds or there is no use in another (persist.go, retry/policy.go)
//	      queue             it is its turn (persist.go, retry/limiter.go)
//	      attempt           one, from the connection to a server that is ready
//	        prepare         connect (upstream.go) while the token is fetched
//	        authenticate    startup packet, token, what the server says to it (login.go)
//	        awaitReady      all that the server says until it is ready (login.go)
//	        checkTarget     whether it takes writes, if it has to (target.go)
//	    handOver            the client gets to know it (login.go)
//	  splice                copy both ways until one side ends (splice.go)
//	    keep                or until a client of --pool takes leave: its connection is the next one's (parting.go, reuse.go)
//	  refuse                or, if a step fails, tell the client why
type session struct {
	proxy    *Proxy
	id       uint64 // as in the log
	peer     string // where the client comes from
	client   *netconn.Conn
	arrival  *list.Element // among those who have not said yet what they want; nil if it is not
	entered  time.Time     // when it came onto that list, which may be some time after it began
	hurried  bool          // had to give way to the next
	admitted bool          // counts as a session
	began    time.Time
	asked    time.Time          // for a session
	took     stats.LoginTimings // until it had one
	failed   error              // the attempt to log in that tells most of those that failed
	up, down atomic.Int64       // bytes so far, to the server and from it

	user, database string // as logged in to upstream
	application    string // as the client calls itself

	// held is what the server has said so far. The client gets it only from the
	// attempt that succeeds.
	held     []byte
	keyData  []byte            // BackendKeyData of that, if there was any: not from RDS Proxy
	reported map[string]string // settings of that, which checkTarget goes by

	key    *cancel.Target // nil if there is none
	pooled bool           // the connection was another client's before
}

// serve is the whole of a client's connection. The session has a goroutine of its
// own, since the stack that a login has grown would stay as long as that.
func (p *Proxy) serve(s *session) {
	if why := s.stranger(); why != nil {
		p.arrivals.leave(s)
		s.turnStrangerAway(why)
		s.end()
		return
	}
	if server := s.open(); server != nil {
		go s.run(server)
		return
	}
	s.end()
}

// open returns the server to which the session leads, or nil if there is to be no
// session: then the client knows why.
func (s *session) open() *upstream {
	packet, err := s.arrive()
	switch {
	case err != nil:
		s.turnAway(err)
		return nil
	case packet.Code == pgwire.CancelRequest:
		s.cancel(packet)
		return nil
	}
	server, err := s.logIn(packet)
	if err != nil {
		s.refuse(err)
		return nil
	}
	return server
}

// arrive finds out what the client wants, and whether it may have that.
func (s *session) arrive() (pgwire.StartupPacket, error) {
	defer s.proxy.arriving.Done()
	packet, err := s.receiveStartup(s.proxy.connectTimeout(), s.proxy.clientTLS)
	var full error
	if err == nil && packet.Code != pgwire.CancelRequest {
		full = s.proxy.admit(s) // may wait, and has its place meanwhile
	}
	left := errors.Is(err, pgwire.ErrNoStartup) && !netconn.IsTimeout(err)
	if stayed := s.proxy.arrivals.leave(s); !stayed && err != nil && !left {
		s.hurried = true
		return packet, s.proxy.evictedError(err)
	}
	return packet, cmp.Or(err, full)
}

func (s *session) run(server *upstream) {
	defer s.end()
	s.splice(server)
}

// end takes the session off all lists, and closes the client's connection.
func (s *session) end() {
	s.forget()
	if s.admitted {
		s.proxy.leave(s)
	}
	s.close()
	s.proxy.handlers.Done()
}

func (p *Proxy) newSession(client net.Conn) *session {
	return &session{
		proxy:  p,
		id:     p.serial.Add(1),
		peer:   peerName(client),
		client: netconn.New(client),
		began:  time.Now(),
	}
}

// log is made for each line: one that stays has a kilobyte of its own.
func (s *session) log() *zap.Logger {
	about := append(make([]zap.Field, 0, 5),
		zap.Uint64("session", s.id),
		zap.String("endpoint", s.proxy.Endpoint),
		zap.String("client", s.peer))
	if s.user != "" {
		about = append(about, zap.String("user", s.user), zap.String("database", s.database))
	}
	return s.proxy.log().With(about...)
}

// close ends the client's connection, with a word in TLS if it speaks that.
func (s *session) close() {
	s.client.Close()
	s.client.Socket().Close()
}

// peerName is where a client comes from. Those of a unix socket have no address.
func peerName(client net.Conn) string {
	if _, ok := client.(*net.UnixConn); ok {
		return "unix:" + client.LocalAddr().String()
	}
	return client.RemoteAddr().String()
}

// shorten cuts text to so many bytes, and not in the middle of a character.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
}

// logIn returns a server that has said that it is ready, and has the client
// know it.
func (s *session) logIn(packet pgwire.StartupPacket) (*upstream, error) {
	wish, err := s.wish(packet)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.proxy.ctx, s.proxy.connectTimeout())
	defer cancel()
	deadline, _ := ctx.Deadline()
	s.client.SetDeadline(deadline)

	server, err := s.connection(ctx, wish)
	switch {
	case err != nil && s.proxy.ctx.Err() != nil:
		return nil, errShuttingDown // and whatever failed, failed for that
	case err != nil:
		return nil, err
	}
	if err := s.handOver(server); err != nil {
		s.abandon(server)
		return nil, err
	}
	s.client.SetDeadline(time.Time{})
	server.SetDeadline(time.Time{})
	return server, nil
}

// connection is one that is logged in, whether it was before or is now.
func (s *session) connection(ctx context.Context, wish pgwire.StartupMessage) (*upstream, error) {
	if server := s.reuse(wish); server != nil {
		return server, nil
	}
	server, err := s.connectWithRetry(ctx, wish)
	if err != nil {
		return nil, err
	}
	s.mayKeep(server, wish)
	return server, nil
}

// wish is what the client asks for, with what the proxy is set to ask for
// instead. Everything else goes up as it came, protocol versions and options
// that we do not know included: the server decides about them.
func (s *session) wish(packet pgwire.StartupPacket) (pgwire.StartupMessage, error) {
	if packet.Major() != 3 {
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.ProtocolUnsupported, nil, packet.Major(), packet.Minor())
	}
	wish, err := pgwire.ParseStartupMessage(packet)
	if err != nil {
		return pgwire.StartupMessage{}, err
	}
	if s.proxy.User != "" {
		wish.Set("user", s.proxy.User)
	}
	if s.proxy.Database != "" {
		wish.Set("database", s.proxy.Database)
	}
	s.user, s.database = wish.Get("user"), wish.Get("database")
	switch {
	case s.user == "":
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.UserMissing, nil)
	case len(wish.Encode()) > pgwire.MaxStartupPacket:
		return pgwire.StartupMessage{}, pgwire.NewError(pgwire.StartupTooLong, nil)
	}
	s.application = shorten(wish.Get("application_name"), maxApplication)
	return wish, nil
}

// attempt connects and logs in once, with the token that it returns.
func (s *session) attempt(ctx context.Context, wish pgwire.StartupMessage) (*upstream, string, error) {
	s.took.Queue = time.Since(s.asked)
	ctx, stop := s.whileClientWaits(ctx)
	defer stop()
	server, token, err := s.prepare(ctx)
	if err != nil {
		return nil, "", s.unlessLeft(ctx, err)
	}
	goOn := context.AfterFunc(ctx, func() { server.SetDeadline(netconn.LongAgo) })
	err = s.enter(server, wish, token)
	if !goOn() { // nobody waits for it any more
		err = s.unlessLeft(ctx, cmp.Or(err, ctx.Err()))
	}
	if err != nil {
		server.Close()
		var refusal *pgwire.ServerError
		if errors.As(err, &refusal) {
			refusal.Before = s.held
		}
		return nil, token, err
	}
	s.took.Login = time.Since(s.asked) - s.took.Queue - s.took.Resolve - s.took.Dial - s.took.TLS
	return server, token, nil
}

// unlessLeft is err, or that the client has left meanwhile.
func (s *session) unlessLeft(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errClientLeft) {
		return errClientLeft
	}
	return err
}

// enter is the way from a connection to a session.
func (s *session) enter(server *upstream, wish pgwire.StartupMessage, token string) error {
	if err := s.authenticate(server, wish, token); err != nil {
		return err
	}
	s.proxy.retry.Authenticated(s.user)
	ready, err := s.awaitReady(server)
	if err != nil {
		return err
	}
	s.recordServer(server)
	if err := s.checkTarget(server, wish); err != nil {
		return err
	}
	return s.hold(ready)
}

// prepare connects to the server while the token is fetched. If one of them
// fails, the other is given up.
func (s *session) prepare(ctx context.Context) (server *upstream, token string, err error) {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		server, err = s.proxy.connect(ctx, s.proxy.address(), &s.took)
		return err
	})
	both.Go(func() (err error) {
		token, err = s.fetchToken(ctx)
		return err
	})
	if err := both.Wait(); err != nil {
		if server != nil {
			server.Close()
		}
		return nil, "", err
	}
	return server, token, nil
}

func (s *session) fetchToken(ctx context.Context) (string, error) {
	token, err := s.proxy.Tokens.Token(ctx, s.user)
	if err != nil {
		return "", tokenError(s.user, err)
	}
	return token, nil
}
