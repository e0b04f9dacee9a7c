package ssm

import "context"

// API starts, resumes and ends sessions of Session Manager. It is safe for concurrent use. Its
// errors are those of the SDK.
type API interface {
	// StartSession starts a session for a port forward. It finds the node of a tag.
	StartSession(ctx context.Context, in StartInput) (Session, error)
	// ResumeSession returns the session with a new token, and with the URL if the service
	// returns one. The token is empty if the session has ended.
	ResumeSession(ctx context.Context, id string) (Session, error)
	// TerminateSession ends a session. It is no error that the session has ended.
	TerminateSession(ctx context.Context, id string) error
}

// StartInput has the parameters of StartSession.
type StartInput struct {
	Target Target
	// Document is the name of the document for the session.
	Document string
	// Parameters are those of the document.
	Parameters map[string][]string
}

// Session is a session of Session Manager. StreamURL may have a signature in its query, and
// Token opens the session: both are secrets.
type Session struct {
	ID        string
	Target    string // the node, also if StartSession has found it by a tag
	StreamURL string
	Token     string
}

// String returns the ID, so that messages never contain a secret.
func (s Session) String() string { return s.ID }

// GoString returns the ID.
func (s Session) GoString() string { return s.ID }
