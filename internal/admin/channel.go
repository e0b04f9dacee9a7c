package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Channel is the part of *ssm.Forward that package admin uses.
type Channel interface {
	Status() ssm.Status
}

// channelView is a Session Manager session on the page.
type channelView struct {
	ssm.Status
	Level         level
	Since, Opened *timestamp
	Error         *excerpt
	RoundTrip     string // empty if it is not known

	// Numbers with their names.
	Bytes, Totals []string
}

// newChannelView returns nil if the endpoint has no Session Manager session.
func newChannelView(c Channel, now time.Time) *channelView {
	if c == nil {
		return nil
	}
	status := c.Status()
	v := &channelView{Status: status, Since: newTimestamp(status.Since, now), Opened: newTimestamp(status.Opened, now)}
	switch {
	case status.State == ssm.Open:
	case status.State == ssm.Resuming:
		v.Level = warn
	case status.Err != nil:
		v.Level = bad
	default:
		v.Level = idle
	}
	if status.Err != nil {
		message := formatMessage(status.Err.Error())
		v.Error = &message
	}
	if status.RoundTrip > 0 {
		v.RoundTrip = formatDuration(status.RoundTrip)
	}
	v.Bytes = []string{text.Bytes(int64(status.BytesOut)) + " up", text.Bytes(int64(status.BytesIn)) + " down"}
	if status.Unacknowledged > 0 {
		v.Bytes = append(v.Bytes, text.Bytes(int64(status.Unacknowledged))+" unacknowledged")
	}
	v.Totals = []string{text.Plural(int(status.Sessions), "session"), text.Plural(int(status.Resumes), "resume")}
	return v
}

var (
	ssmState          = describe("ssm_session_state", "1 for the current state of the Session Manager session: closed, opening, open, resuming.", "endpoint", "listen", "state")
	ssmStart          = describe("ssm_session_start_timestamp_seconds", "Start of the current Session Manager session, as a Unix time. Absent without a session.", "endpoint", "listen")
	ssmSessions       = describe("ssm_sessions_total", "Session Manager sessions that were opened.", "endpoint", "listen")
	ssmResumes        = describe("ssm_resumes_total", "WebSockets of Session Manager sessions that were replaced.", "endpoint", "listen")
	ssmConnections    = describe("ssm_connections", "Open connections in the Session Manager session.", "endpoint", "listen")
	ssmBytes          = describe("ssm_bytes_total", "Bytes in Session Manager sessions: up (to the target) and down (from it).", "endpoint", "listen", "direction")
	ssmRoundTrip      = describe("ssm_round_trip_seconds", "Smoothed time between a message and its acknowledgement by the target. Absent before the first.", "endpoint", "listen")
	ssmUnacknowledged = describe("ssm_unacknowledged_bytes", "Bytes that the target has not acknowledged.", "endpoint", "listen")
)

// channelDescs are the metrics of an endpoint with a Session Manager session.
var channelDescs = []*prometheus.Desc{ssmState, ssmStart, ssmSessions, ssmResumes, ssmConnections, ssmBytes, ssmRoundTrip, ssmUnacknowledged}

// channel sends the metrics of a Session Manager session.
func (to samples) channel(c Channel, endpoint, listen string) {
	if c == nil {
		return
	}
	status := c.Status()
	for _, state := range []ssm.State{ssm.Closed, ssm.Opening, ssm.Open, ssm.Resuming} {
		to.gauge(ssmState, boolValue(status.State == state), endpoint, listen, string(state))
	}
	to.timestamp(ssmStart, status.Opened, endpoint, listen)
	to.counter(ssmSessions, int64(status.Sessions), endpoint, listen)
	to.counter(ssmResumes, int64(status.Resumes), endpoint, listen)
	to.gauge(ssmConnections, float64(status.Streams), endpoint, listen)
	to.counter(ssmBytes, int64(status.BytesOut), endpoint, listen, "up")
	to.counter(ssmBytes, int64(status.BytesIn), endpoint, listen, "down")
	if status.RoundTrip > 0 {
		to.gauge(ssmRoundTrip, status.RoundTrip.Seconds(), endpoint, listen)
	}
	to.gauge(ssmUnacknowledged, float64(status.Unacknowledged), endpoint, listen)
}
