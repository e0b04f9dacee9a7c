// Package cancel finds the session that a CancelRequest is for, and the server of that
// session. It does not connect to servers: its caller delivers the requests.
//
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
package cancel

import (
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"sync"
)

// pidSize is the length of the process ID, with which every cancel key begins. The
// secret follows.
const pidSize = 4

// Target is a session that a CancelRequest can name. Several servers can stand behind one
// name, such as a reader endpoint's; only the one at Address has the session.
type Target struct {
	Address   string // of the server
	ServerKey []byte // the key by which the server knows the session

	key []byte // the key that the client was sent; not ServerKey on a pooled connection

	// delivered is the channel of the request that was claimed and is not released yet, or
	// nil.
	delivered chan struct{}

	// pending counts the requests that were released to be sent and that the server has
	// not processed.
	pending int
}

func (t *Target) pid() uint32 { return binary.BigEndian.Uint32(t.key) }

// Stats counts CancelRequests by their outcome.
type Stats struct {
	Delivered int64 `json:"delivered"` // sent to the session's server
	Rejected  int64 `json:"rejected"`  // the key belongs to no session, to an ended one, or to two
	Repeated  int64 `json:"repeated"`  // served by an earlier request that was not sent yet
	Failed    int64 `json:"failed"`    // the server could not be reached, or the write failed
}

// Registry holds the targets of one proxy. The zero value is empty. Its methods may be
// called concurrently.
type Registry struct {
	mu    sync.Mutex
	byPID map[uint32][]*Target // process IDs of different servers can be equal
	stats Stats
}

// Add registers a session under key, the key that its client is sent. Both keys are bodies
// of BackendKeyData: a process ID of 4 bytes and a secret.
func (r *Registry) Add(key, serverKey []byte, address string) *Target {
	t := &Target{Address: address, ServerKey: serverKey, key: key}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byPID == nil {
		r.byPID = make(map[uint32][]*Target)
	}
	r.byPID[t.pid()] = append(r.byPID[t.pid()], t)
	return t
}

// Remove removes a session. It reports whether the server may still act on a request for
// it.
func (r *Registry) Remove(t *Target) (pending bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest := slices.DeleteFunc(r.byPID[t.pid()], func(other *Target) bool { return other == t })
	if len(rest) == 0 {
		delete(r.byPID, t.pid())
	} else {
		r.byPID[t.pid()] = rest
	}
	return t.pending > 0
}

// Len returns the number of sessions.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, targets := range r.byPID {
		n += len(targets)
	}
	return n
}

// Claim looks up the session of a CancelRequest by its key.
//
// If the caller is to deliver the request, Claim returns the session's target. The caller
// then calls Release, and closes delivered when it has finished.
//
// If an earlier request for the session has not been released, that one serves both: the
// server gets it after both were made. Then t is nil, and delivered is closed when the
// earlier request is finished.
//
// If the key belongs to no session, both are nil.
func (r *Registry) Claim(key []byte) (t *Target, delivered chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t = r.find(key)
	switch {
	case t == nil:
		r.stats.Rejected++
		return nil, nil
	case t.delivered != nil:
		r.stats.Repeated++
		return nil, t.delivered
	default:
		t.delivered = make(chan struct{})
		return t, t.delivered
	}
}

// find returns the session with the key, or nil. Its duration does not depend on how much
// of a guessed secret is right. r.mu is held.
func (r *Registry) find(key []byte) *Target {
	if len(key) < pidSize {
		return nil
	}
	var found *Target
	matches := 0
	for _, t := range r.byPID[binary.BigEndian.Uint32(key)] {
		if subtle.ConstantTimeCompare(t.key, key) == 1 {
			found = t
			matches++
		}
	}
	if matches > 1 { // the request could cancel another client's query
		return nil
	}
	return found
}

// Release releases a claimed request. Later requests do not join it any more. connected is
// whether the server was reached.
//
// Release reports whether the request is to be sent. It is not if the session has ended: its
// server process may have ended, too, and another may have its process ID.
func (r *Registry) Release(t *Target, connected bool) (send bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.delivered = nil
	switch {
	case !connected:
		r.stats.Failed++
		return false
	case !slices.Contains(r.byPID[t.pid()], t):
		r.stats.Rejected++
		return false
	default:
		t.pending++
		return true
	}
}

// Sent counts a request as delivered, or as failed if its write to the server failed with
// err.
func (r *Registry) Sent(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.stats.Failed++
		return
	}
	r.stats.Delivered++
}

// Processed records that the server has finished processing a request.
func (r *Registry) Processed(t *Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.pending--
}

// Reject counts a request that is rejected without a look at its key.
func (r *Registry) Reject() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Rejected++
}

// Stats returns the counts so far.
func (r *Registry) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}
