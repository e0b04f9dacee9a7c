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
)

// endpoint is what the name alone says. A region that is not the database's makes
// tokens that it refuses.
func (w *walk) endpoint(context.Context) result {
	if named := w.Name.Region; named != "" && named != w.Region {
		return failed(fmt.Sprintf("wrong region: by its name the database is in %s, and tokens would be signed for %s", named, w.Region),
			w.checkIn(named, w.Options.Sign))
	}
	kind := string(w.Name.Kind)
	if w.Name.Kind == auth.Unknown {
		kind = "a name that is not of AWS's, taken as it is,"
	}
	return ok(fmt.Sprintf("%s in %s, port %s", kind, w.Region, w.Port))
}

// credentials are what there is to sign with. Whether AWS takes them is the next step.
func (w *walk) credentials(ctx context.Context) result {
	err := w.Identity.Ready(ctx)
	var missing *auth.Error
	switch {
	case errors.As(err, &missing):
		return w.noCredentials(missing)
	case err != nil:
		return failed(err.Error(), "")
	}
	status := w.Identity.Status()
	found := "from " + status.Source
	if !status.Expires.IsZero() {
		found += fmt.Sprintf(", valid until %s (%s)", status.Expires.UTC().Format(time.RFC3339), time.Until(status.Expires).Round(time.Second))
	}
	return ok(found)
}

func (w *walk) noCredentials(missing *auth.Error) result {
	found := missing.Message
	switch missing.Code {
	case auth.ReasonSourceCredentialsExpired, auth.ReasonSourceCredentialsRejected:
		return failed(found, w.renew(missing.Source))
	case auth.ReasonSSOExpired, auth.ReasonLoginExpired:
		return failed(found, commandLine(missing.Command...))
	case auth.ReasonNoCredentials:
		return failed(found+"; "+missing.Hint, "aws configure sso"+w.profileFlag())
	default:
		return failed(found, inWords(missing.Hint))
	}
}

// identity is whose the credentials are, which AWS tells everybody about themselves. That
// many networks do not let the question through is nobody's failure.
func (w *walk) identity(ctx context.Context) result {
	caller, err := w.Identity.Caller(ctx)
	w.seen.caller = caller
	var missing *auth.Error
	var said awsError
	switch {
	case err == nil:
		return ok(caller.ARN)
	case errors.As(err, &missing): // they ran out in between
		return w.noCredentials(missing)
	case !errors.As(err, &said):
		return noAnswer("STS does not answer from here, and whose the credentials are is not known")
	case !slices.Contains(auth.Rejections, said.ErrorCode()):
		return noAnswer(fmt.Sprintf("STS does not say whose the credentials are: %s (%s)", said.ErrorMessage(), said.ErrorCode()))
	case w.Identity.ClockIsOff():
		return noAnswer(fmt.Sprintf("STS does not say whose the credentials are while the clock is off: %s (%s)", said.ErrorMessage(), said.ErrorCode()))
	default:
		return w.rejected(said.ErrorMessage(), said.ErrorCode())
	}
}

// rejected is about credentials that AWS does not take.
func (w *walk) rejected(message, code string) result {
	why := "not valid"
	if strings.HasPrefix(code, "Expired") {
		why = "expired"
	}
	return failed(fmt.Sprintf("the credentials from %s are %s: %s (%s)", w.Identity.Source(), why, message, code), w.renew(w.Identity.Source()))
}

// awsError is an answer of AWS's.
type awsError interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

// renew is how to get other credentials in the place of those from source that AWS does
// not take.
func (w *walk) renew(source auth.Source) string {
	switch source.Kind {
	case auth.SourceSSO:
		return "aws sso login" + w.profileFlag()
	case auth.SourceLogin:
		return "aws login" + w.profileFlag()
	case auth.SourceEnvironment:
		return `eval "$(aws configure export-credentials --format env --profile ` + cmp.Or(quote(w.Options.Profile), "PROFILE") + `)"`
	case auth.SourceProfileKeys:
		return "aws configure" + w.profileFlag()
	default:
		return inWords("renew the credentials where they come from: " + source.String())
	}
}

// clock is this machine's beside that of AWS's answers so far.
func (w *walk) clock(context.Context) result {
	ahead, known := w.Identity.ClockAhead()
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	switch {
	case !known:
		return noAnswer("no answer of AWS's has told the time")
	case w.Identity.ClockIsOff():
		return failed(fmt.Sprintf("this machine's clock is %s %s AWS's, and tokens from the future and old ones are refused", ahead.Abs(), direction), setClock())
	case ahead.Abs() <= time.Second: // as exact as the answers are
		return ok("as AWS's, to the second")
	default:
		return ok(fmt.Sprintf("%s %s AWS's", ahead.Abs(), direction))
	}
}

// setClock is the command that does it here.
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
