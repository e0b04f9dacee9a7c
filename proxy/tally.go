package proxy

import (
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// keptLogins and keptFailures are how many of the last ones are remembered.
	keptLogins, keptFailures = 60, 20
	// A line of the same reason is written sampleLines times in sampleTime; the
	// others are counted.
	sampleLines = 5
	sampleTime  = 10 * time.Second
)

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
	samples  map[sample]*sampled
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

// sample is what lines of a log have in common of which many may come at once. It
// has nothing in it that a client can choose.
type sample struct {
	level   zapcore.Level
	message string
	reason  string // an SQLSTATE, say
}

// sampled is what became of them within sampleTime.
type sampled struct {
	since         time.Time
	lines, untold int
}

// tells reports whether another line is worth writing.
func (t *tally) tells(what sample) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.samples[what]
	if seen == nil {
		seen = &sampled{since: time.Now()}
		if t.samples == nil {
			t.samples = make(map[sample]*sampled)
		}
		t.samples[what] = seen
	}
	if seen.lines == sampleLines {
		seen.untold++
		return false
	}
	seen.lines++
	return true
}

// untold takes those out whose time is up by then.
func (t *tally) untold(by time.Time) map[sample]sampled {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := make(map[sample]sampled)
	for what, seen := range t.samples {
		if by.Sub(seen.since) >= sampleTime {
			over[what] = *seen
			delete(t.samples, what)
		}
	}
	return over
}

// logSampled writes a line, unless many for the same reason were written just now.
func (s *session) logSampled(level zapcore.Level, message, reason string, fields ...zap.Field) {
	p := s.proxy
	if !p.log().Core().Enabled(level) || p.tally.tells(sample{level, message, reason}) {
		s.log().Log(level, message, fields...)
	}
}

// logUntold says how many lines were not written, of those whose time is up by then.
func (p *Proxy) logUntold(by time.Time) {
	for what, seen := range p.tally.untold(by) {
		if seen.untold > 0 {
			p.log().Log(what.level, what.message, zap.String("endpoint", p.Endpoint), zap.String("reason", what.reason),
				zap.Int("more_of_the_same", seen.untold), zap.Duration("within", sampleTime))
		}
	}
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
