package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
)

// evidence holds findings of the steps beside their states.
type evidence struct {
	caller    auth.Caller      // empty if unknown
	database  *rdsapi.Database // nil if unknown
	addresses []netip.Addr     // of the dialed host

	down    bool // the database accepts no logins
	foreign bool // the database is not PostgreSQL
	iamOff  bool // IAM authentication is not enabled
	expiry  bool // the certificate has expired or is not valid yet
	// rejected means that AWS rejects the credentials that open the session.
	rejected bool
	login    outcome
}

// outcome is the outcome of the login.
type outcome string

const (
	noLogin           outcome = ""
	accepted          outcome = "accepted"
	tokenRefused      outcome = "token refused"      // the server gives no reason
	passwordRequested outcome = "password requested" // instead of a token
	otherError        outcome = "other error"        // the error has the reason
)

// candidates lists the steps whose failure would explain the outcome, the likeliest first.
func (e evidence) candidates() []string {
	switch e.login {
	case tokenRefused:
		// A wrong clock makes the requests to AWS fail, too. A wrong region or key
		// makes the token invalid whatever the policies are.
		return []string{Clock, Endpoint, Identity, Policy, Database, Login}
	case passwordRequested:
		if e.iamOff {
			return []string{Database, Login}
		}
		return []string{Login}
	case accepted:
		return []string{Writes, RDSIAM, RoundTrip}
	case otherError:
		return []string{Login}
	}
	candidates := []string{Credentials}
	if e.rejected {
		candidates = append(candidates, Clock, Identity)
	}
	if e.expiry {
		candidates = append(candidates, Clock)
	}
	if e.down || e.foreign {
		candidates = append(candidates, Database)
	}
	return append(candidates, DNS, Session, TCP, TLS, Login)
}

// rootCause returns the failed step that explains the others, or the zero value.
func rootCause(steps []Step, seen evidence) Step {
	for _, name := range seen.candidates() {
		if s := find(steps, name); s.State == Failed {
			return s
		}
	}
	i := slices.IndexFunc(steps, func(s Step) bool { return s.State == Failed })
	if i < 0 {
		return Step{}
	}
	return steps[i]
}

// verdict returns whether user can log in, and if not, the cause and the next step.
func verdict(user string, steps []Step, seen evidence) (ok bool, cause, next string) {
	switch step := rootCause(steps, seen); {
	case step.State == Failed && seen.login == accepted:
		return false, fmt.Sprintf("user %q can log in, but %s", user, step.Found), step.Next
	case step.State == Failed:
		return false, fmt.Sprintf("user %q cannot log in: %s", user, step.Found), step.Next
	case seen.login != accepted:
		return false, "timed out before completing any check", ""
	default:
		return true, "", ""
	}
}

// unexplained describes what may be the cause if no failed step explains a refused token.
func unexplained(steps []Step) string {
	var unchecked []string
	for _, s := range steps {
		if s.State == NotPermitted || s.State == NoAnswer || s.Name == Policy && s.State == NotTried {
			unchecked = append(unchecked, s.Name)
		}
	}
	if len(unchecked) > 0 {
		return "the likeliest cause is in what could not be checked: " + strings.Join(unchecked, ", ")
	}
	return "all other checks passed; changes in IAM take some minutes, and a small instance may lack memory for IAM authentication; the log export iam-db-auth-error has the reason"
}
