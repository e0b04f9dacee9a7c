package proxy

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// cancelWait is how long a client waits at the most for the server to be reached,
// and then for it to have seen the cancel request.
const cancelWait = 10 * time.Second

// cancelTarget is a session as a cancel request names it, and where its server
// is. Behind a reader endpoint's name there are several servers, and only one
// of them has the session.
type cancelTarget struct {
	pid     uint32
	secret  []byte // 4 bytes, and up to pgwire.MaxCancelKey since protocol 3.2
	own     []byte // the server's own key, number and all: another if the client's was made for it
	address string

	// waiting is closed once the request that is on its way has been delivered. It
	// is nil while there is none that the server has not been sent yet.
	waiting chan struct{}

	// sent is how many requests the server has been sent that it may yet act on.
	sent int
}

// CancelCounts are what became of the cancel requests so far.
type CancelCounts struct {
	Delivered int64 `json:"delivered"` // to the session's server
	Rejected  int64 `json:"rejected"`  // the key is of no session, of one that has ended, or of two at once
	Repeated  int64 `json:"repeated"`  // the same was on its way already, and served for both
	Failed    int64 `json:"failed"`    // the server could not be reached, or did not take it
}

// cancelTargets are the sessions whose queries can be cancelled. Its zero value
// has none.
type cancelTargets struct {
	mu     sync.Mutex
	byPID  map[uint32][]*cancelTarget // of several servers, hence several
	counts CancelCounts
}

func (c *cancelTargets) add(t *cancelTarget) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPID == nil {
		c.byPID = make(map[uint32][]*cancelTarget)
	}
	c.byPID[t.pid] = append(c.byPID[t.pid], t)
}

// remove forgets a session, and reports whether its server may yet act on a request
// for it.
func (c *cancelTargets) remove(t *cancelTarget) (acts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	acts = t.sent > 0
	others := slices.DeleteFunc(c.byPID[t.pid], func(other *cancelTarget) bool { return other == t })
	if len(others) == 0 {
		delete(c.byPID, t.pid)
		return acts
	}
	c.byPID[t.pid] = others
	return acts
}

// find returns the one session that a key belongs to, or nil. What it takes does
// not depend on how much of a guessed secret is right. c.mu is held.
func (c *cancelTargets) find(pid uint32, secret []byte) *cancelTarget {
	var found *cancelTarget
	matches := 0
	for _, t := range c.byPID[pid] {
		if subtle.ConstantTimeCompare(t.secret, secret) == 1 {
			found = t
			matches++
		}
	}
	if matches != 1 { // of two, one would be a stranger
		return nil
	}
	return found
}

// claim returns the session that a request is for, if the caller is to deliver
// it. If another request for it is on its way and has not been sent yet, the
// server will have that one after both were made: waiting is what to wait for.
func (c *cancelTargets) claim(pid uint32, secret []byte) (t *cancelTarget, waiting <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = c.find(pid, secret)
	switch {
	case t == nil:
		c.counts.Rejected++
		return nil, nil
	case t.waiting != nil:
		c.counts.Repeated++
		return nil, t.waiting
	default:
		t.waiting = make(chan struct{})
		return t, nil
	}
}

// release ends the time in which other requests can join this one, which is sent
// next if reached. It reports whether the session is still there: one that ended
// while the request was on its way has a server process that may be gone, and its
// number another's.
func (c *cancelTargets) release(t *cancelTarget, reached bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.waiting = nil
	if !slices.Contains(c.byPID[t.pid], t) {
		return false
	}
	if reached {
		t.sent++
	}
	return true
}

// over notes that the server is done with a request that it was sent.
func (c *cancelTargets) over(t *cancelTarget) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.sent--
}

// count adds one to one of c.counts.
func (c *cancelTargets) count(n *int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// Cancels is what became of the cancel requests so far.
func (p *Proxy) Cancels() CancelCounts {
	p.cancels.mu.Lock()
	defer p.cancels.mu.Unlock()
	return p.cancels.counts
}

// remember notes the key that the client is given, and that which its server goes by.
func (s *session) remember(key, own []byte, server *upstream) {
	if !pgwire.IsCancelKey(key) || s.key != nil {
		return
	}
	s.key = &cancelTarget{
		pid:     binary.BigEndian.Uint32(key),
		secret:  key[4:],
		own:     own,
		address: server.address,
	}
	s.proxy.cancels.add(s.key)
}

// forget makes the session's key one that nobody has, and reports whether the server
// may yet act on a request with it.
func (s *session) forget() (acts bool) {
	if s.key != nil {
		acts = s.proxy.cancels.remove(s.key)
		s.key = nil
	}
	return acts
}

// cancel passes a cancel request on to the very server that has its session,
// and returns when that server has closed its end: what the client sends next
// is not hit by it. A request never gets an answer.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (s *session) cancel(packet pgwire.StartupPacket) {
	p := s.proxy
	if len(packet.Payload) < 4 {
		p.cancels.count(&p.cancels.counts.Rejected)
		s.log().Debug("cancel request without a key")
		return
	}
	target, waiting := p.cancels.claim(binary.BigEndian.Uint32(packet.Payload), packet.Payload[4:])
	switch {
	case waiting != nil:
		<-waiting
		s.log().Debug("cancel request served by another that was on its way")
	case target == nil:
		s.log().Debug("cancel request for no session of ours", zap.Int64("rejected", p.Cancels().Rejected))
	default:
		s.deliver(target)
	}
}

// deliver takes a cancel request to its server, and lets those go who wait for it.
func (s *session) deliver(target *cancelTarget) {
	p := s.proxy
	defer close(target.waiting)
	ctx, stop := context.WithTimeout(p.ctx, min(p.connectTimeout(), cancelWait))
	defer stop()
	server, err := p.connect(ctx, target.address, &stats.LoginTimings{})
	alive := p.cancels.release(target, err == nil)
	if err != nil {
		p.cancels.count(&p.cancels.counts.Failed)
		s.logSampled(zap.WarnLevel, "cancel request not delivered", "", zap.Error(p.failure(err)))
		return
	}
	defer server.Close()
	if !alive {
		p.cancels.count(&p.cancels.counts.Rejected)
		s.log().Info("cancel request for a session that has ended")
		return
	}
	if s.sendCancel(server, target) {
		p.cancels.over(target)
	}
}

// sendCancel sends a cancel request, and reports whether the server is done with it.
func (s *session) sendCancel(server *upstream, target *cancelTarget) bool {
	p := s.proxy
	server.SetDeadline(time.Now().Add(cancelWait))
	request := &pgproto3.CancelRequest{ProcessID: binary.BigEndian.Uint32(target.own), SecretKey: target.own[4:]}
	if _, err := server.Write(pgwire.Encode(request)); err != nil {
		p.cancels.count(&p.cancels.counts.Failed)
		s.logSampled(zap.WarnLevel, "cancel request not delivered", "", zap.Error(err))
		return false
	}
	p.cancels.count(&p.cancels.counts.Delivered)
	// The server's way of saying that it is done is to close.
	if _, err := io.Copy(io.Discard, server); netconn.IsTimeout(err) {
		s.log().Warn("cancel request sent, but the server has not closed since", zap.String("server", target.address), zap.Duration("waited", cancelWait))
		return false
	}
	s.log().Debug("cancel request delivered", zap.String("server", target.address))
	return true
}
