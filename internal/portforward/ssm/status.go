package ssm

import "time"

// State is the state of a Forward.
type State string

// The states.
const (
	Closed   State = "closed"   // there is no session; the next Dial opens one
	Opening  State = "opening"  // the session is being opened
	Open     State = "open"     // connections can be opened
	Resuming State = "resuming" // the WebSocket was lost and is being replaced
)

// Status describes a Forward for the status page, the metrics and `iamproxy check`.
type Status struct {
	State     State
	Since     time.Time // of the state
	Target    string    // the node, or empty before the first session
	SessionID string    // of the current session, or empty
	Agent     string    // version of the SSM Agent, or empty before the first session
	Opened    time.Time // when the current session was opened, or zero
	Streams   int       // open connections
	// Sessions and Resumes count opened sessions and replaced WebSockets since Start.
	Sessions, Resumes uint64
	// BytesIn and BytesOut count the bytes of data since Start. BytesIn are those from the
	// target.
	BytesIn, BytesOut uint64
	// RoundTrip is the smoothed time between a message and its acknowledgement, or zero.
	RoundTrip time.Duration
	// Unacknowledged is the number of bytes that the target has not acknowledged.
	Unacknowledged int
	// Err is the error of the last session that failed or was not opened, or nil after a
	// success. While a session is resumed, it is that of the last attempt.
	Err error
}

// Status returns the current status.
func (f *Forward) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := Status{
		State: Closed, Since: f.since, Target: f.target, Agent: f.agent, Sessions: f.sessions, Err: f.lastErr,
		Resumes: f.ended.Resumes, BytesIn: f.ended.BytesIn, BytesOut: f.ended.BytesOut,
	}
	s := f.current
	if s == nil || !s.failedAt.IsZero() {
		return status
	}
	status.State = Opening
	if s.channel == nil {
		return status
	}
	stats := s.channel.Stats()
	status.State, status.Since = Open, stats.Since
	if !stats.Connected {
		status.State = Resuming
		if err := s.attemptError(); err != nil {
			status.Err = s.explain(err)
		}
	}
	status.SessionID, status.Opened = s.info.ID, s.openedAt
	status.Streams = s.mux.NumStreams()
	status.Resumes += stats.Resumes
	status.BytesIn += stats.BytesIn
	status.BytesOut += stats.BytesOut
	status.RoundTrip, status.Unacknowledged = stats.RoundTrip, stats.Unacknowledged
	return status
}
