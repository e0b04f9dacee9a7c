package proxy

import (
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/text"
)

// soon is how long a client has to wait for the server for that to be a failure when it
// leaves: a person who changes their mind is none.
const soon = 2 * time.Second

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

// came notes what has become of a client that wanted a session. t.mu is held.
func (t *tally) came(result string) {
	if t.results == nil {
		t.results = make(map[string]int64)
	}
	t.results[result]++
}

// left notes that a client went away, of which nothing is to be told.
func (t *tally) left() {
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

// failed notes that a client was told of a failure, or would have been.
func (t *tally) failed(result string, f Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came(result)
	if t.codes == nil {
		t.codes = make(map[string]int64)
	}
	t.codes[f.SQLSTATE]++
	t.remember(f)
}

// retried notes an attempt that failed and is made again, with what there is to tell of
// it: who wonders why nobody gets in need not wait until the first one gives up.
func (t *tally) retried(f *Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retries++
	if f != nil {
		t.remember(*f)
	}
}

// remember puts a failure first on the list. t.mu is held.
func (t *tally) remember(f Failure) {
	f.First = f.Last
	for i, known := range t.failures {
		if known.title == f.title && known.SQLSTATE == f.SQLSTATE && known.User == f.User && known.Database == f.Database {
			f.First, f.Times = known.First, f.Times+known.Times
			t.failures = slices.Delete(t.failures, i, i+1)
			break
		}
	}
	t.failures = slices.Insert(t.failures, 0, f)
	t.failures = t.failures[:min(len(t.failures), keptFailures)]
}

// noteFailure has a failure counted and shown that the client is told of.
func (s *session) noteFailure(err error, hint string) {
	result := ResultFailed
	var own *fatalError
	if errors.As(err, &own) && own.Rejects {
		result = ResultRejected
	}
	s.proxy.tally.failed(result, s.failure(err, hint, 1))
}

// retried notes an attempt that is made again. What the server says is told at the
// end: it may well have been for a token that was too old, or for their number.
func (s *session) retried(err error) {
	var said *serverError
	if errors.As(err, &said) {
		s.proxy.tally.retried(nil)
		return
	}
	own := s.proxy.failure(err)
	f := s.failure(own, own.Hint, 0)
	s.proxy.tally.retried(&f)
}

// abandoned notes that the client has left before it could be told why it had to wait.
func (s *session) abandoned() {
	if s.failed == nil && s.took.Attempts > 0 && time.Since(s.asked) > soon {
		s.failed = s.proxy.noAnswerBefore(errClientLeft)
	}
	s.logSampled(zap.InfoLevel, "login given up", sqlstateOf(s.failed), zap.Error(errClientLeft), zap.NamedError("so_far", s.failed))
	var said *serverError
	switch {
	case s.failed == nil:
		s.proxy.tally.left()
	case errors.As(s.failed, &said):
		s.proxy.tally.failed(ResultAbandoned, s.failure(said, said.hint, 1))
	default:
		own := s.proxy.failure(s.failed)
		s.proxy.tally.failed(ResultAbandoned, s.failure(own, own.Hint, 1))
	}
}

// failure is one as it is shown. err is a *fatalError or a *serverError.
func (s *session) failure(err error, hint string, times int) Failure {
	message := err.Error()
	title := message
	var own *fatalError
	if errors.As(err, &own) {
		title = own.kind()
		message = "iamproxy: " + message
	}
	return Failure{
		Last:     time.Now(),
		Times:    times,
		Client:   s.peer,
		User:     s.user,
		Database: s.database,
		SQLSTATE: sqlstateOf(err),
		Own:      own != nil,
		Message:  text.OneLine(message),
		Hint:     text.OneLine(hint),
		title:    title,
	}
}

// noteServer remembers whom the session has logged in to.
func (s *session) noteServer(server *upstream) {
	info := ServerInfo{At: time.Now(), Address: server.address, Version: s.reported[serverVersion]}
	if state, ok := server.ConnectionState(); ok {
		info.TLS = tls.VersionName(state.Version)
		if len(state.PeerCertificates) > 0 {
			info.CertificateExpiry = state.PeerCertificates[0].NotAfter
		}
	}
	s.proxy.tally.loggedIn(info)
}
