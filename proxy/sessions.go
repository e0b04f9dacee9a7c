package proxy

import (
	"cmp"
	"net"
	"slices"
	"sync"

	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// sessionTable holds the listeners and the admitted sessions of a proxy, and whether it
// accepts new ones: it serves, then it drains, then it has stopped. Its zero value serves.
type sessionTable struct {
	admitted sync.WaitGroup // sessions between add and done

	mu        sync.Mutex
	draining  bool
	handedOff bool // the listeners, to another process
	stopped   bool
	listeners []net.Listener
	servers   map[*session]*upstream.Conn // nil while the session logs in
	closed    struct{ up, down int64 }    // bytes of ended sessions
}

// addListener adds a listener, and calls added, unless no clients are accepted any more.
func (t *sessionTable) addListener(listener net.Listener, added func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handedOff || t.stopped {
		return false
	}
	t.listeners = append(t.listeners, listener)
	added()
	return true
}

// accepts reports whether listeners are in use: otherwise they were closed on purpose.
func (t *sessionTable) accepts() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.handedOff && !t.stopped
}

// handOff leaves new clients to another process.
func (t *sessionTable) handOff() {
	t.mu.Lock()
	t.handedOff = true
	t.mu.Unlock()
	t.closeListeners()
}

// closeListeners may take until the next client connects: another process may have made a
// shared socket a blocking one.
func (t *sessionTable) closeListeners() {
	t.mu.Lock()
	listeners := slices.Clone(t.listeners)
	t.mu.Unlock()
	for _, listener := range listeners {
		listener.Close()
	}
}

// drain has add reject sessions from now on.
func (t *sessionTable) drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}

func (t *sessionTable) isDraining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.draining
}

// stop calls cancel, which ends all sessions, and returns how many were open.
func (t *sessionTable) stop(cancel func()) (open int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, server := range t.servers {
		if server != nil {
			open++
		}
	}
	t.stopped = true
	cancel()
	return open
}

// add adds a session that is about to log in, unless the proxy drains.
func (t *sessionTable) add(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return false
	}
	if t.servers == nil {
		t.servers = make(map[*session]*upstream.Conn)
	}
	t.servers[s] = nil
	t.admitted.Add(1)
	s.admitted = true
	return true
}

// done ends what add has begun.
func (t *sessionTable) done() { t.admitted.Done() }

// setServer records that a session has a server.
func (t *sessionTable) setServer(s *session, server *upstream.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.servers[s] = server
}

// remove removes a session, once.
func (t *sessionTable) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.servers[s]; !ok {
		return
	}
	delete(t.servers, s)
	t.closed.up += s.up.Load()
	t.closed.down += s.down.Load()
}

// counts returns the number of sessions and the bytes of all so far.
func (t *sessionTable) counts() (sessions int, up, down int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	up, down = t.closed.up, t.closed.down
	for s := range t.servers {
		up += s.up.Load()
		down += s.down.Load()
	}
	return len(t.servers), up, down
}

// info returns the open sessions, the oldest first.
func (t *sessionTable) info() (open []SessionInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, server := range t.servers {
		if server != nil { // before that, its fields are still being set
			open = append(open, s.info(server))
		}
	}
	slices.SortFunc(open, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return open
}

// updateUserTimeouts updates the user timeout of each connection to the server.
func (t *sessionTable) updateUserTimeouts() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, server := range t.servers {
		if server != nil {
			server.Socket().UpdateUserTimeout()
		}
	}
}
