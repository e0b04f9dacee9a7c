package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// ConnLimit is the maximum number of clients that are admitted at once, those that log in included.
// Several proxies may share one. A nil ConnLimit is none.
type ConnLimit struct {
	Max  int    // must be more than 0
	Hint string // how to raise it; may be empty

	once  sync.Once
	taken chan struct{} // an element for each client
}

// limitWait bounds the wait for room: a client whose session has just ended may not have
// released its place yet.
const limitWait = 100 * time.Millisecond

// acquire reports whether there was room for one more client.
func (l *ConnLimit) acquire() bool {
	if l == nil {
		return true
	}
	l.once.Do(func() { l.taken = make(chan struct{}, l.Max) })
	select {
	case l.taken <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(limitWait)
	defer timer.Stop()
	select {
	case l.taken <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (l *ConnLimit) release() {
	if l != nil {
		<-l.taken
	}
}

const (
	// maxLingering is the maximum number of rejected connections that linger. More would use up
	// the descriptors of clients that get a session.
	maxLingering = 256
	// maxRejecting is the maximum number of unauthorized connections that are being sent an error. The
	// others are closed, for the same reason.
	maxRejecting = 64
	// maxEnding is the maximum number of ended sessions that linger without a place in the limit. The
	// others keep their place, for the same reason.
	maxEnding = 64
)

// admission decides which connections get as far as a login.
type admission struct {
	clientTLS *tls.Config // Proxy.ClientTLS with ALPN; nil if there is none
	pending   pendingConns
	startups  sync.WaitGroup // connections without a startup packet, and accept loops
	rejecting atomic.Int64   // unauthorized connections that are being sent an error
	lingering atomic.Int64   // rejected connections that linger until the client has read the error
	ending    atomic.Int64   // ended sessions that linger until the client has closed
}

// enter counts a connection until leave is called. It reports whether the count is at most
// limit. Where few connections may be pending there are few descriptors, and the limit is
// lower.
func (a *admission) enter(count *atomic.Int64, limit int) (leave func(), ok bool) {
	ok = count.Add(1) <= int64(max(1, min(limit, a.pending.limit/2)))
	return func() { count.Add(-1) }, ok
}

// checkAccess returns why the client may not connect: its address or its user is not
// allowed.
func (p *Proxy) checkAccess(s *session) *pgwire.Error {
	client := s.client.Socket().NetConn()
	if !p.allowsAddress(client.RemoteAddr()) {
		host, _, _ := net.SplitHostPort(s.peer)
		return pgwire.NewError(pgwire.ClientAddressNotAllowed, nil, host)
	}
	if p.AllowPeer == nil {
		return nil
	}
	if err := p.AllowPeer(client); err != nil {
		failed := pgwire.NewError(pgwire.ClientUserNotAllowed, nil, err)
		failed.Hint = text.Advice(err)
		return failed
	}
	return nil
}

// allowsAddress reports whether a client may connect from the address. Access to a unix
// socket is decided by its mode.
func (p *Proxy) allowsAddress(client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok || p.AllowFrom == nil {
		return true
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(p.AllowFrom, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// admit counts a client that is about to log in. The error is why it may not now.
func (p *Proxy) admit(s *session) error {
	if p.sessions.isDraining() {
		return errShuttingDown
	}
	if !p.Limit.acquire() {
		failed := pgwire.NewError(pgwire.TooManySessions, nil, p.Limit.Max)
		failed.Hint = p.Limit.Hint
		return failed
	}
	if !p.sessions.add(s) {
		p.Limit.release()
		return errShuttingDown
	}
	s.admittedAt = time.Now()
	s.limited = true
	return nil
}

// removeSession takes a session off the list, and makes room for another one. Its connections may
// still be in use.
func (p *Proxy) removeSession(s *session) {
	p.sessions.remove(s)
	s.makeRoom()
}

// makeRoom releases the session's place in the limit, once. A session that stays on the list is
// still counted with its bytes.
func (s *session) makeRoom() {
	if s.limited {
		s.limited = false
		s.proxy.Limit.release()
	}
}
