package proxy

import (
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// keptLogins and keptFailures are how many of the last ones are remembered.
const keptLogins, keptFailures = 60, 20

// tally is what a proxy remembers of what it has done. Its zero value has done
// nothing.
type tally struct {
	mu       sync.Mutex
	results  map[string]int64
	codes    map[string]int64
	retries  int64
	logins   []Login   // the oldest first
	failures []Failure // the newest first
	server   ServerInfo
}

func (t *tally) counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Counts{Results: maps.Clone(t.results), Failures: maps.Clone(t.codes), Retries: t.retries}
}

func (t *tally) lastLogins() []Login {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.logins)
}

func (t *tally) lastFailures() []Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.failures)
}

func (t *tally) lastServer() ServerInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server
}

func (t *tally) retried() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retries++
}

// came notes what has become of a client that wanted a session. t.mu is held.
func (t *tally) came(result string) {
	if t.results == nil {
		t.results = make(map[string]int64)
	}
	t.results[result]++
}

func (t *tally) abandoned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came(ResultAbandoned)
}

func (t *tally) opened(login Login) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came(ResultOK)
	if len(t.logins) == keptLogins {
		t.logins = slices.Delete(t.logins, 0, 1)
	}
	t.logins = append(t.logins, login)
}

func (t *tally) loggedIn(server ServerInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server = server
}

// failed notes a failure that a client is told of. title is what is alike in those of
// the same reason.
func (t *tally) failed(result, title string, f Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came(result)
	if t.codes == nil {
		t.codes = make(map[string]int64)
	}
	t.codes[f.SQLSTATE]++
	f.First, f.Times, f.title = f.Last, 1, title
	for i, known := range t.failures {
		if known.title == title && known.SQLSTATE == f.SQLSTATE && known.User == f.User && known.Database == f.Database {
			f.First, f.Times = known.First, known.Times+1
			t.failures = slices.Delete(t.failures, i, i+1)
			break
		}
	}
	t.failures = slices.Insert(t.failures, 0, f)
	t.failures = t.failures[:min(len(t.failures), keptFailures)]
}

// noteFailure has a failure counted and shown that the client is told of.
func (s *session) noteFailure(err error, code, message, hint string) {
	result, title := ResultFailed, message
	var own *fatalError
	if errors.As(err, &own) {
		title = own.Message // what is underneath may be another each time
		message = "iamproxy: " + message
		if own.Rejects {
			result = ResultRejected
		}
	}
	s.proxy.tally.failed(result, title, Failure{
		Last:     time.Now(),
		Client:   s.peer,
		User:     s.user,
		Database: s.database,
		SQLSTATE: code,
		Message:  oneLine(message),
		Hint:     oneLine(hint),
	})
}

// noteServer remembers whom the session has logged in to.
func (s *session) noteServer(server *upstream) {
	info := ServerInfo{At: time.Now(), Address: server.address, Version: s.reported[serverVersion]}
	if conn, ok := server.Conn.(*tls.Conn); ok {
		state := conn.ConnectionState()
		info.TLS = tls.VersionName(state.Version)
		if len(state.PeerCertificates) > 0 {
			info.CertificateExpiry = state.PeerCertificates[0].NotAfter
		}
	}
	s.proxy.tally.loggedIn(info)
}
