package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
)

// endpoint checks the region against the one in the host name. The database rejects tokens for
// another region.
func (r *run) endpoint(context.Context) result {
	if named := r.Endpoint.Name.Region; named != "" && named != r.Endpoint.Region {
		return failed(fmt.Sprintf("wrong region: the database is in %s by its name, and tokens would be signed for %s", named, r.Endpoint.Region),
			r.again()).withReason(reasonRegionMismatch).readBefore("The name has the region: leave out --region " + r.Endpoint.Region + ".")
	}
	kind := string(r.Endpoint.Name.Kind)
	if r.Endpoint.Name.Kind == auth.Unknown {
		kind = "not an AWS name,"
	}
	return ok(fmt.Sprintf("%s in %s, port %s", kind, r.Endpoint.Region, r.Endpoint.Port))
}

// credentials fetches the credentials.
func (r *run) credentials(ctx context.Context) result {
	err := r.Identity.Ready(ctx)
	var missing *auth.Error
	switch {
	case errors.As(err, &missing):
		return r.noCredentials(missing).withReason(missing.Reason())
	case err != nil:
		return failed(err.Error(), "")
	}
	status := r.Identity.Status()
	found := "from " + status.Source
	if !status.Expires.IsZero() {
		found += fmt.Sprintf(", valid until %s (%s)", status.Expires.UTC().Format(time.RFC3339), time.Until(status.Expires).Round(time.Second))
	}
	return ok(found)
}

// noCredentials returns the result for credentials that could not be fetched.
func (r *run) noCredentials(missing *auth.Error) result {
	found := missing.Message
	switch missing.Code {
	case auth.ReasonSourceCredentialsExpired, auth.ReasonSourceCredentialsRefused:
		return r.mustRenew(found, missing.Source)
	case auth.ReasonSSOExpired, auth.ReasonLoginExpired:
		return failed(found, text.ShellCommand(missing.Command...))
	case auth.ReasonNoCredentials:
		return failed(found, r.getCredentials())
	default:
		return failed(found, advice(missing.Hint))
	}
}

// getCredentials returns how to get credentials where there are none.
func (r *run) getCredentials() string {
	return cmp.Or(platformAdvice(), "aws configure sso"+r.profileFlag())
}

// platformAdvice returns how to get credentials on this platform, or "" if a login at a terminal
// is possible.
func platformAdvice() string {
	if found := auth.PlatformAdvice(); found != "" {
		return advice(found)
	}
	return ""
}

// identity requests the caller's ARN, which also validates the credentials. STS being
// unreachable is not a failure, since many networks block it.
func (r *run) identity(ctx context.Context) result {
	caller, err := r.Identity.Caller(ctx)
	r.seen.caller = caller
	var missing *auth.Error
	var response awsError
	switch {
	case err == nil:
		return ok(caller.ARN)
	case errors.As(err, &missing): // they have expired since
		return r.noCredentials(missing).withReason(missing.Reason())
	case r.Identity.Unreachable(err) != nil:
		return noAnswer(r.Identity.Unreachable(err).Error() + "; the identity is not known")
	case !errors.As(err, &response):
		return noAnswer("STS did not answer; the identity is not known")
	case !slices.Contains(auth.Refusals, response.ErrorCode()):
		return noAnswer(fmt.Sprintf("STS did not return the identity: %s (%s)", response.ErrorMessage(), response.ErrorCode()))
	case r.Identity.ClockIsOff():
		return noAnswer(fmt.Sprintf("STS did not return the identity, because of the clock: %s (%s)", response.ErrorMessage(), response.ErrorCode()))
	default:
		return r.refused(response.ErrorMessage(), response.ErrorCode())
	}
}

// refused returns the result for credentials that AWS refuses.
func (r *run) refused(message, code string) result {
	why := "not valid"
	if strings.HasPrefix(code, "Expired") {
		why = "expired"
	}
	return r.mustRenew(fmt.Sprintf("the credentials from %s are %s: %s (%s)", r.Identity.Source(), why, message, code), r.Identity.Source()).withReason(reasonCredentials)
}

// awsError is an error response of AWS.
type awsError interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

// mustRenew returns the result for credentials from source that have to be renewed.
func (r *run) mustRenew(found string, source auth.Source) result {
	res := failed(found, r.renew(source))
	if source.Kind == auth.SourceEnvironment && !strings.HasPrefix(res.next, commentPrefix) {
		res = res.readBefore("Export new keys, for example those of a profile:")
	}
	return res
}

// renew returns the command line that renews the credentials from source.
func (r *run) renew(source auth.Source) string {
	switch source.Kind {
	case auth.SourceSSO:
		return "aws sso login" + r.profileFlag()
	case auth.SourceLogin:
		return "aws login" + r.profileFlag()
	case auth.SourceEnvironment:
		return cmp.Or(platformAdvice(), `eval "$(aws configure export-credentials --format env --profile `+text.ShellQuote(cmp.Or(r.Endpoint.Signer.Profile, "PROFILE"))+`)"`)
	case auth.SourceProfileKeys:
		return "aws configure" + r.profileFlag()
	default:
		if rejected := r.Identity.Status().Rejected; rejected != nil {
			return advice(text.Advice(rejected))
		}
		return advice("Renew the credentials from " + source.String() + ".")
	}
}

// clock compares the local clock with the time in AWS's responses so far.
func (r *run) clock(context.Context) result {
	ahead, known := r.Identity.ClockAhead()
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	switch {
	case !known:
		return noAnswer("no response of AWS had the time")
	case r.Identity.ClockIsOff():
		return failed(fmt.Sprintf("the clock of this machine is %s %s AWS's clock, so that its tokens are not valid", ahead.Abs(), direction), setClock()).withReason(reasonClockSkew)
	case ahead.Abs() <= time.Second: // the precision of the responses
		return ok("within a second of AWS's clock")
	default:
		return ok(fmt.Sprintf("%s %s AWS's clock", ahead.Abs(), direction))
	}
}

// setClock returns the command line that sets the clock on this operating system.
func setClock() string {
	switch runtime.GOOS {
	case "windows":
		return "w32tm /resync"
	case "darwin":
		return "sudo sntp -sS time.apple.com"
	default:
		return "sudo chronyc makestep"
	}
}
