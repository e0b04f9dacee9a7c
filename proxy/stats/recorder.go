package stats

import (
	"maps"
	"slices"
	"sync"
)

// maxLogins and maxFailures are how many of the last ones are kept.
const maxLogins, maxFailures = 60, 20

// Recorder records what a proxy does. Its zero value has recorded nothing. Its methods may
// be called concurrently.
type Recorder struct {
	mu       sync.Mutex
	totals   Totals
	logins   []LoginTimings // the oldest first
	failures []Failure      // the newest first
	server   ServerInfo
}

// Totals returns the counts so far.
func (r *Recorder) Totals() Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Totals{Results: maps.Clone(r.totals.Results), Failures: maps.Clone(r.totals.Failures), Retries: r.totals.Retries}
}

// Logins returns the last ones that led to a session, the oldest first.
func (r *Recorder) Logins() []LoginTimings {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logins)
}

// Failures returns the last ones, the newest first. Failures of one kind are grouped.
func (r *Recorder) Failures() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.failures)
}

// Server returns the server of the last login. Its zero value means that there was none.
func (r *Recorder) Server() ServerInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server
}

// SessionOpened records a session.
func (r *Recorder) SessionOpened(login LoginTimings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(OK)
	if len(r.logins) == maxLogins {
		r.logins = slices.Delete(r.logins, 0, 1)
	}
	r.logins = append(r.logins, login)
}

// LoggedIn records a server that accepted a login.
func (r *Recorder) LoggedIn(server ServerInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
}

// ClientFailed records a client that was sent a failure, or would have been had it stayed.
func (r *Recorder) ClientFailed(result Result, f Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(result)
	if r.totals.Failures == nil {
		r.totals.Failures = make(map[FailureKind]int64)
	}
	r.totals.Failures[FailureKind{f.SQLSTATE, f.Reason}]++
	r.remember(f)
}

// ClientDisconnected records a client that disconnected for no reason of the proxy's.
func (r *Recorder) ClientDisconnected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(Abandoned)
}

// Retried records a failed attempt that is made again. The failure is shown at once, while
// its client still waits; it may be nil.
func (r *Recorder) Retried(f *Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.Retries++
	if f != nil {
		r.remember(*f)
	}
}

// count counts a result. r.mu is held.
func (r *Recorder) count(result Result) {
	if r.totals.Results == nil {
		r.totals.Results = make(map[Result]int64)
	}
	r.totals.Results[result]++
}

// remember puts a failure first on the list. r.mu is held.
func (r *Recorder) remember(f Failure) {
	f.First = f.Last
	for i := range r.failures {
		if known := &r.failures[i]; known.sameKind(&f) {
			f.First, f.Times = known.First, f.Times+known.Times
			r.failures = slices.Delete(r.failures, i, i+1)
			break
		}
	}
	r.failures = slices.Insert(r.failures, 0, f)
	r.failures = r.failures[:min(len(r.failures), maxFailures)]
}
