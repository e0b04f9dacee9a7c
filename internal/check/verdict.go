package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
)

// evidence is what the steps have shown beyond how they went.
type evidence struct {
	caller    auth.Caller      // empty: STS has not said
	database  *rdsapi.Database // nil: RDS has not said
	addresses []netip.Addr     // of what is dialled

	down    bool   // the database does not run, by RDS
	foreign bool   // the database is not PostgreSQL, by RDS
	iamOff  bool   // IAM authentication is not enabled, by RDS
	expiry  bool   // the certificate is not valid at this time
	answer  answer // of the server to the login
}

// answer is what a server says to a login.
type answer string

const (
	unheard   answer = ""           // there was no login
	letIn     answer = "let in"     // it took the token
	refused   answer = "refused"    // it did not, and does not say why
	notAsked  answer = "not asked"  // it wants another kind of password
	otherwise answer = "said other" // it said something that explains itself
)

// suspects are the steps whose failure would explain it, the likeliest first.
func (e evidence) suspects() []string {
	switch e.answer {
	case refused:
		// A clock that is off spoils what AWS says to all others; a region or keys that are
		// wrong spoil the token whatever the policies are.
		return []string{Clock, Endpoint, Identity, Policy, Database, Login}
	case notAsked:
		if e.iamOff {
			return []string{Database, Login}
		}
		return []string{Login}
	case letIn:
		return []string{Writes, RDSIAM, RoundTrip}
	case otherwise:
		return []string{Login}
	}
	suspects := []string{Credentials}
	if e.expiry {
		suspects = append(suspects, Clock)
	}
	if e.down || e.foreign {
		suspects = append(suspects, Database)
	}
	return append(suspects, DNS, TCP, TLS, Login)
}

// guilty is the step that is to blame; its zero value if none failed.
func guilty(steps []Step, seen evidence) Step {
	for _, name := range seen.suspects() {
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

// verdict is whether user can log in, and what is in the way of it.
func verdict(user string, steps []Step, seen evidence) (ok bool, cause, next string) {
	switch to := guilty(steps, seen); {
	case to.State == Failed && seen.answer == letIn:
		return false, fmt.Sprintf("%s can log in, but %s: %s", user, to.Name, to.Found), to.Next
	case to.State == Failed:
		return false, fmt.Sprintf("%s cannot log in: %s", user, to.Found), to.Next
	case seen.answer != letIn:
		return false, "the time was up before anything could be said", ""
	default:
		return true, "", ""
	}
}

// unexplained is what there is to say where nothing that was looked at explains why a
// token is refused.
func unexplained(steps []Step) string {
	var blind []string
	for _, s := range steps {
		if s.State == NotPermitted || s.State == NoAnswer || s.Name == Policy && s.State == NotTried {
			blind = append(blind, s.Name)
		}
	}
	if len(blind) > 0 {
		return "the likeliest is what could not be looked at: " + strings.Join(blind, ", ")
	}
	return "all that can be looked at is in order; changes in IAM take some minutes, and a small instance may be short of memory for it; the log export iam-db-auth-error has the reason"
}
