package proxy

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Limit is how many clients one or more proxies let in at once, those that are being
// logged in included. It is to be shared by pointer. A nil Limit is none.
type Limit struct {
	Max  int    // must be more than 0
	Hint string // what to do for it to be more; may be empty

	once  sync.Once
	taken chan struct{} // one for each client
}

// takePatience is how long a client waits for room: another that has just said goodbye
// may not be off the list yet.
const takePatience = 100 * time.Millisecond

// take reports whether there was room for one more.
func (l *Limit) take() bool {
	if l == nil {
		return true
	}
	l.once.Do(func() { l.taken = make(chan struct{}, l.Max) })
	select {
	case l.taken <- struct{}{}:
		return true
	default:
	}
	patience := time.NewTimer(takePatience)
	defer patience.Stop()
	select {
	case l.taken <- struct{}{}:
		return true
	case <-patience.C:
		return false
	}
}

func (l *Limit) giveBack() {
	if l != nil {
		<-l.taken
	}
}

// stranger is why the client may not connect, from where it does or for who it is; nil if
// it may.
func (s *session) stranger() *pgwire.Error {
	p, client := s.proxy, s.client.Socket().Conn
	if !p.allowed(client.RemoteAddr()) {
		host, _, _ := net.SplitHostPort(s.peer)
		return pgwire.NewError(pgwire.ClientAddressNotAllowed, nil, host)
	}
	if p.AllowPeer != nil {
		if err := p.AllowPeer(client); err != nil {
			failed := pgwire.NewError(pgwire.ClientUserNotAllowed, nil, err)
			failed.Hint = text.Advice(err)
			return failed
		}
	}
	return nil
}

// allowed reports whether a client may connect from where it does. Of a unix socket
// its mode has decided that.
func (p *Proxy) allowed(client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok || p.AllowFrom == nil {
		return true
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(p.AllowFrom, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// maxLingering is how many clients are waited for at once that have heard why there is no
// session for them: more of them would take the descriptors of those who get one.
const maxLingering = 256

const (
	// strangerTime is how long who may not connect has to say what it wants, so that
	// it can be told.
	strangerTime = time.Second
	// maxStrangers is how many of them are told at once. The others are closed, or they
	// would take the descriptors of those who may.
	maxStrangers = 64
)

// share is how many are told of something at once: fewer where few may arrive, since there
// are few descriptors.
func (p *Proxy) share(most int) int64 { return int64(max(1, min(most, p.arrivals.most/2))) }

// turnStrangerAway tells a client that it may not connect.
func (s *session) turnStrangerAway(why *pgwire.Error) {
	p := s.proxy
	defer p.arriving.Done()
	defer p.strangers.Add(-1)
	if p.strangers.Add(1) > p.share(maxStrangers) {
		p.recorder.ClientFailed(stats.Rejected, s.failure(why, "", 1))
		return
	}
	switch packet, err := s.receiveStartup(strangerTime, nil); {
	case errors.Is(err, pgwire.ErrNoStartup): // it wants nothing
	case err == nil && packet.Code == pgwire.CancelRequest && p.allowed(s.client.RemoteAddr()):
		s.cancel(packet) // it has the key, and may be gone before it can be told whose it is
	case err == nil && packet.Code == pgwire.CancelRequest: // never gets an answer
		p.cancels.Reject()
	default:
		s.refuse(why)
	}
}
