package ssm

import (
	"errors"
	"fmt"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// Error reports why there is no connection through a Forward.
type Error struct {
	Reason pgwire.Reason
	Text   string // one line
	Hint   string // may be empty
	Err    error  // the cause: one of the errors below, of the API, or of the context
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns the hint.
func (e *Error) Advice() string { return e.Hint }

// The causes of an Error, beside those of the API, of the configuration and of package channel.
var (
	// ErrConnectToPort is the error of connections for which the agent could not connect to
	// the database's host and port.
	ErrConnectToPort = errors.New("SSM Agent could not connect to the port")
	// ErrStopped is the error after Stop.
	ErrStopped = errors.New("port forward is stopped")
	// ErrStuck is the error of a connection whose client did not read while others waited.
	ErrStuck = errors.New("client does not read, and other connections wait")
)

// AgentVersionError is the error for an agent that does not forward several connections in one
// session.
type AgentVersionError struct{ Version string }

func (e *AgentVersionError) Error() string {
	return fmt.Sprintf("SSM Agent %s is older than 3.0.197", e.Version)
}

// UpgradeError is the error for a WebSocket that could not be opened.
type UpgradeError struct {
	Status int    // the HTTP status of the response, or 0 if there was none
	Code   string // the code of an error of AWS in the response, or empty
	Host   string
	Err    error // without the URL, which is a secret
}

func (e *UpgradeError) Error() string {
	return fmt.Sprintf("could not open a WebSocket to %s: %v", e.Host, e.Err)
}

func (e *UpgradeError) Unwrap() error { return e.Err }

// explain returns the *Error for a cause.
func (f *Forward) explain(err error) *Error {
	return &Error{Text: err.Error(), Err: err}
}
