// Package ssm forwards connections to a port through AWS Systems Manager Session Manager. All
// connections to a database share one session. No other program and no local port is needed.
package ssm

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

// Forward is a port forward through Session Manager. Target, Host, Port, API and Config are
// required. The fields must not be changed after Start.
type Forward struct {
	// Name identifies the forward in the log.
	Name string
	// Target is the node that connects to the database.
	Target Target
	// Host and Port are those of the database, as the target resolves them. A loopback
	// address is the target itself.
	Host, Port string
	// API starts, resumes and ends the session.
	API API
	// Config returns the region, the credentials and the HTTP client for the WebSocket.
	Config func(ctx context.Context) (aws.Config, error)
	// AllowHTTP allows a WebSocket without TLS. It is for an API whose endpoint has no TLS.
	AllowHTTP bool
	// CLIFlags are the flags of the AWS CLI for the region and profile of the target. Hints
	// contain them.
	CLIFlags string
	// Log may be nil.
	Log *zap.Logger
}

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
	// success.
	Err error
}

var errNotImplemented = errors.New("not implemented")

// Start opens the session in the background and returns. It must be called once, before the
// other methods.
func (f *Forward) Start() {}

// Stop ends the session and all connections. It returns within 2 s.
func (f *Forward) Stop() {}

// Dial opens a connection to the database, and ignores the address. It waits for the session
// until ctx is done. If there is no session, Dial opens one. The error is a *pgwire.Error if ctx
// is not done.
func (f *Forward) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, errNotImplemented
}

// Open waits until the session is open, and returns its status. If there is no session, Open
// opens one.
func (f *Forward) Open(context.Context) (Status, error) { return Status{}, errNotImplemented }

// Status returns the current status.
func (f *Forward) Status() Status { return Status{State: Closed} }

// LastOutput returns the text of the last error, or "" if there is none.
func (f *Forward) LastOutput() string { return "" }
