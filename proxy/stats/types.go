// Package stats records what a proxy has done: counters, the timings of the last logins,
// and the last failures.
package stats

import (
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// Result is the outcome for a client that requested a session.
type Result = string

const (
	OK        Result = "ok"        // it has, or had, a session
	Failed    Result = "failed"    // the login failed, and the client was sent the reason; or the client required encryption that was declined
	Rejected  Result = "rejected"  // the client was rejected: too many, not allowed, shutting down
	Abandoned Result = "abandoned" // the client disconnected before it had a session
)

// FailureKind groups failures that are counted together.
type FailureKind struct {
	SQLSTATE string
	Reason   pgwire.Reason
}

// Totals are counts since the proxy started.
type Totals struct {
	Results  map[Result]int64
	Failures map[FailureKind]int64 // clients that were sent an error, or would have been had they stayed
	Retries  int64                 // attempts to log in that failed and were made again
}

// LoginTimings holds the durations of the steps of a login that led to a session. A step that
// did not happen is zero.
type LoginTimings struct {
	At       time.Time     // when the session began
	Queue    time.Duration // until the attempt that succeeded: its turn, failed attempts, and the pauses after them
	Resolve  time.Duration // the name; this and the following are of the attempt that succeeded
	Dial     time.Duration // TCP
	TLS      time.Duration // request for it and handshake
	Login    time.Duration // from the startup packet to ReadyForQuery; the wait for the token and CheckWritable included
	Total    time.Duration // from the client's startup packet to its session
	Attempts int           // 0 if the session got a connection of the pool
}

// MarshalLogObject writes the phases in seconds.
func (t LoginTimings) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddFloat64("queue", t.Queue.Seconds())
	to.AddFloat64("resolve", t.Resolve.Seconds())
	to.AddFloat64("dial", t.Dial.Seconds())
	to.AddFloat64("tls", t.TLS.Seconds())
	to.AddFloat64("login", t.Login.Seconds())
	return nil
}

// Failure is a failure that clients were sent, or several of the same kind; or one that
// holds up clients which still wait.
type Failure struct {
	First, Last    time.Time
	Times          int    // clients; 0 while all still wait
	Client         string // address of the last one
	User, Database string // empty if the client had not sent a startup packet
	SQLSTATE       string
	Reason         pgwire.Reason
	Message        string // as the client was sent it
	Hint           string // may be empty
	Check          string // command line that finds the cause; may be empty
}

// sameKind reports whether two failures are shown as one.
func (f *Failure) sameKind(other *Failure) bool {
	return f.Reason == other.Reason && f.SQLSTATE == other.SQLSTATE && f.User == other.User && f.Database == other.Database &&
		(!f.Reason.FromServer() || f.Message == other.Message)
}

// ServerInfo is the server of the last login.
type ServerInfo struct {
	At                time.Time // of the login
	Address           string
	Version           string // server_version; may be empty
	TLS               string // such as "TLS 1.3"
	CertificateExpiry time.Time
}
