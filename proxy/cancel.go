package proxy

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
)

// cancelWait is how long a client waits at the most for the server to have seen
// its cancel request.
const cancelWait = 10 * time.Second

// cancelTarget is a session as a cancel request names it, and where its server
// is. Behind a reader endpoint's name there are several servers, and only one
// of them has the session.
type cancelTarget struct {
	pid     uint32
	secret  []byte // 4 bytes, and up to 256 since protocol 3.2
	address string
}

// cancelTargets are the sessions whose queries can be cancelled. Its zero value
// has none.
type cancelTargets struct {
	mu    sync.Mutex
	byPID map[uint32][]*cancelTarget // of several servers, hence several
}

func (c *cancelTargets) add(t *cancelTarget) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPID == nil {
		c.byPID = make(map[uint32][]*cancelTarget)
	}
	c.byPID[t.pid] = append(c.byPID[t.pid], t)
}

func (c *cancelTargets) remove(t *cancelTarget) {
	c.mu.Lock()
	defer c.mu.Unlock()
	others := c.byPID[t.pid]
	for i, other := range others {
		if other == t {
			others = append(others[:i:i], others[i+1:]...)
			break
		}
	}
	if len(others) == 0 {
		delete(c.byPID, t.pid)
		return
	}
	c.byPID[t.pid] = others
}

// find returns the session that a key belongs to. What it takes does not depend
// on how much of a guessed secret is right.
func (c *cancelTargets) find(pid uint32, secret []byte) *cancelTarget {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.byPID[pid] {
		if subtle.ConstantTimeCompare(t.secret, secret) == 1 {
			return t
		}
	}
	return nil
}

// remember notes the key that the server gave the client (BackendKeyData).
func (s *session) remember(key []byte, server *upstream) {
	if len(key) < 4 || s.key != nil {
		return
	}
	s.key = &cancelTarget{
		pid:     binary.BigEndian.Uint32(key),
		secret:  key[4:],
		address: server.RemoteAddr().String(),
	}
	s.proxy.cancels.add(s.key)
}

// forget makes the session's key one that nobody has.
func (s *session) forget() {
	if s.key != nil {
		s.proxy.cancels.remove(s.key)
		s.key = nil
	}
}

// cancel passes a cancel request on to the very server that has its session,
// and returns when that server has closed its end: what the client sends next
// is not hit by it. A request never gets an answer.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (s *session) cancel(packet firstPacket) {
	p := s.proxy
	if len(packet.payload) < 4 {
		s.log.Debug("cancel request without a key")
		return
	}
	request := pgproto3.CancelRequest{
		ProcessID: binary.BigEndian.Uint32(packet.payload),
		SecretKey: packet.payload[4:],
	}
	target := p.cancels.find(request.ProcessID, request.SecretKey)
	if target == nil {
		s.log.Info("cancel request for no session of ours")
		return
	}
	ctx, stop := context.WithTimeout(p.ctx, p.connectTimeout())
	defer stop()
	server, err := p.connect(ctx, target.address)
	if err != nil {
		s.log.Warn("cancel request not delivered", zap.Error(p.failure(err)))
		return
	}
	defer server.Close()
	server.SetDeadline(time.Now().Add(cancelWait))
	if _, err := server.Write(encode(&request)); err != nil {
		s.log.Warn("cancel request not delivered", zap.Error(err))
		return
	}
	// The server's way of saying that it is done is to close.
	if _, err := io.Copy(io.Discard, server); timedOut(err) {
		s.log.Warn("cancel request sent, but the server has not closed since", zap.String("server", target.address), zap.Duration("waited", cancelWait))
		return
	}
	s.log.Debug("cancel request delivered", zap.String("server", target.address))
}
