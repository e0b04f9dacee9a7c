package ssm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/awsapi"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// The causes of errors of Dial, beside those of the API, of the configuration and of package
// channel.
var (
	// ErrStopped is the error after Stop.
	ErrStopped = errors.New("port forward is stopped")
	// ErrStuck is the error of a connection whose client did not read while others waited.
	ErrStuck = errors.New("client does not read, and other connections wait")
)

// AgentVersionError is the error for an agent that does not forward several connections in one
// session.
type AgentVersionError struct{ Version, Node string }

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

// explain returns the error for a session that could not be opened, or that ended, because of err.
func (f *Forward) explain(err error) *pgwire.Error {
	var known *pgwire.Error
	var tag *tagError
	var request *requestError
	var upgrade *UpgradeError
	var agent *AgentVersionError
	var ended *channel.EndedError
	var lost *channel.LostError
	var action *channel.ActionError
	switch target := f.Target.String(); {
	case errors.As(err, &lost):
		return f.lostError(lost)
	case errors.As(err, &known):
		return known
	case errors.As(err, &tag):
		failed := pgwire.NewError(pgwire.SSMTargetUnavailable, tag, target)
		failed.Hint, failed.Transience = tag.hint+f.listHint(), pgwire.IfSeenBefore
		return failed
	case errors.As(err, &request):
		return f.requestError(request.explain())
	case errors.As(err, &upgrade):
		return f.upgradeError(upgrade)
	case errors.As(err, &agent):
		failed := pgwire.NewError(pgwire.SSMAgentUnsupported, agent, target)
		failed.Hint = fmt.Sprintf("Update it: `aws ssm send-command --document-name AWS-UpdateSSMAgent --targets Key=InstanceIds,Values=%s%s`.", agent.Node, f.cliFlags())
		if f.Target.Kind == Container {
			failed.Hint = "ECS provides SSM Agent: start the task again, on the latest platform version or with the latest container agent."
		}
		return failed
	case errors.As(err, &action), errors.Is(err, channel.ErrNoHandshake):
		failed := pgwire.NewError(pgwire.SSMAgentUnsupported, err, target)
		failed.Hint = "Check the Session Manager preferences of the account and region, and the version of SSM Agent on the target: a port forward needs neither a shell nor KMS."
		return failed
	case errors.Is(err, channel.ErrHandshakeTimeout):
		failed := pgwire.NewError(pgwire.SSMTargetUnavailable, err, target)
		failed.Transience = pgwire.Transient
		return failed
	case errors.Is(err, channel.ErrUnacknowledged):
		failed := pgwire.NewError(pgwire.SSMSessionEnded, err, target)
		failed.Transience = pgwire.Transient
		return failed
	case errors.As(err, &ended):
		failed := pgwire.NewError(pgwire.SSMSessionEnded, nil, target)
		if ended.Output != "" {
			failed.Err = errors.New(text.OneLine(ended.Output))
		}
		failed.Hint = "Session Manager ends sessions that are idle for 20 minutes, and after the maximum session duration of its preferences. Connect again: the next client opens a new session."
		failed.Transience = pgwire.Transient
		return failed
	case errors.Is(err, ErrStuck), errors.Is(err, errMux), errors.Is(err, errStalled):
		return pgwire.NewError(pgwire.ConnectionBroken, err, f.address())
	case errors.Is(err, errStep):
		failed := pgwire.NewError(pgwire.SSMUnreachable, errStep, target)
		failed.Transience = pgwire.Transient
		return failed
	case errors.Is(err, ErrStopped):
		return pgwire.NewError(pgwire.ShuttingDown, nil)
	default: // of the credentials
		return pgwire.NewSessionError(target, err)
	}
}

// lostError returns the error for a session that could not be resumed.
func (f *Forward) lostError(lost *channel.LostError) *pgwire.Error {
	last := f.explain(lost.Err)
	failed := pgwire.NewError(pgwire.SSMSessionEnded, nil, f.Target.String())
	failed.Err = fmt.Errorf("could not resume it within %s", text.Duration(lost.Outage))
	if last.Err != nil {
		failed.Err = fmt.Errorf("%w: %w", failed.Err, last.Err)
	}
	failed.Hint, failed.Transience = last.Hint, pgwire.Transient
	return failed
}

// connectError returns the error for a database that the node does not reach.
func (f *Forward) connectError(node string) *pgwire.Error {
	failed := pgwire.NewError(pgwire.SSMConnectFailed, nil, node, f.address())
	failed.Transience = pgwire.Transient
	if Document(f.Host) == documentToTarget {
		failed.Hint = fmt.Sprintf("Check that a server listens on port %s of %s.", f.Port, node)
		return failed
	}
	failed.Hint = fmt.Sprintf("Check that the database is running, that its security group allows the security group of %s to reach %s, and that %s resolves the name.", node, f.address(), node)
	return failed
}

// address returns the host and port of the database.
func (f *Forward) address() string { return net.JoinHostPort(f.Host, f.Port) }

// waitError returns the error for a session that is not open when ctx is done.
func (f *Forward) waitError(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	status := f.Status()
	cause := fmt.Errorf("%s for %s", status.State, text.Duration(time.Since(status.Since)))
	failed := pgwire.NewError(pgwire.SSMUnreachable, cause, f.Target.String())
	var last *pgwire.Error
	if errors.As(status.Err, &last) && last.Err != nil { // of the attempt before
		failed.Err, failed.Hint = fmt.Errorf("%w: %w", cause, last.Err), last.Hint
	}
	failed.Hint += " If it needs more time, raise --connect-timeout."
	failed.Transience = pgwire.Transient
	return failed
}

// requestError returns the error for a request to the API of Systems Manager.
func (f *Forward) requestError(err *awsapi.Error) *pgwire.Error {
	target := f.Target.String()
	switch {
	case err.Code == "TargetNotConnected":
		failed := pgwire.NewError(pgwire.SSMTargetUnavailable, errors.New("the target is not connected"), target)
		failed.Transience = pgwire.IfSeenBefore
		if f.Target.Kind == Container {
			failed.Hint = "Check that the task is running with ECS Exec (enableExecuteCommand), and that its task role is allowed the actions of ssmmessages that ECS Exec needs."
			return failed
		}
		failed.Hint += f.listHint()
		return failed
	case errors.Is(err, awsapi.ErrNotPermitted):
		return f.deniedError(err.Denied)
	case errors.Is(err, awsapi.ErrCredentials):
		failed := pgwire.NewSessionError(target, err)
		failed.Reason, failed.Code = pgwire.Reason(auth.ReasonCredentialsRejected), pgwire.InvalidAuthorization
		failed.Hint = "Renew the credentials where they come from. If they are new, check this machine's clock."
		return failed
	case errors.Is(err, awsapi.ErrUnreachable):
		failed := pgwire.NewError(pgwire.SSMUnreachable, err, target)
		failed.Transience = pgwire.Transient
		return failed
	case err.Code != "": // AWS answered
		failed := pgwire.NewError(pgwire.SSMTargetUnavailable, err, target)
		failed.Hint = ""
		if f.Target.Kind == ManagedNode {
			failed.Hint = "Sessions on nodes outside EC2 need the advanced-instances tier of Systems Manager, which AWS charges for."
		}
		return failed
	default:
		return pgwire.NewError(pgwire.SSMUnreachable, err, target)
	}
}

// deniedError returns the error for a missing permission.
func (f *Forward) deniedError(denied awsapi.Denied) *pgwire.Error {
	what, why := denied.Action, "is not allowed"
	if denied.Resource != "" {
		what += " on " + denied.Resource
	}
	if denied.Policy != "" {
		why += ": " + denied.Policy
	}
	failed := pgwire.NewError(pgwire.SSMAccessDenied, errors.New(what+" "+why), f.Target.String())
	failed.Hint = fmt.Sprintf("Allow the caller %s. `%s` prints the whole policy.", what, f.PolicyCommand)
	return failed
}

// upgradeError returns the error for a WebSocket that could not be opened.
func (f *Forward) upgradeError(err *UpgradeError) *pgwire.Error {
	code := strings.TrimSuffix(err.Code, "Exception")
	if code == "AccessDenied" {
		return f.deniedError(awsapi.Denied{Action: "ssmmessages:OpenDataChannel"})
	}
	if err.Status == 0 {
		proxy := awsapi.ThroughProxy(&url.URL{Scheme: "https", Host: err.Host})
		cause := fmt.Errorf("could not reach %s%s: %s", err.Host, proxy, cmp.Or(text.NetworkCause(err.Err), text.OneLine(fmt.Sprint(err.Err))))
		failed := pgwire.NewError(pgwire.SSMUnreachable, cause, f.Target.String())
		failed.Transience = pgwire.Transient
		if proxy != "" {
			failed.Hint = fmt.Sprintf("Check the address of the HTTP proxy, and that it lets this host connect to %s. NO_PROXY lists the hosts that are reached without it.", err.Host)
		}
		return failed
	}
	cause := fmt.Errorf("%s answered the request for a WebSocket with status %d", err.Host, err.Status)
	failed := pgwire.NewError(pgwire.SSMUnreachable, cause, f.Target.String())
	failed.Hint = fmt.Sprintf("If there is an HTTP proxy (HTTPS_PROXY), configure it to pass WebSockets to %s, or set NO_PROXY=%s if this host reaches it without the proxy.", err.Host, err.Host)
	switch {
	case err.Status == http.StatusForbidden:
		denied := f.deniedError(awsapi.Denied{Action: "ssmmessages:OpenDataChannel"})
		failed.Hint = denied.Hint + " " + failed.Hint
	case err.Status >= http.StatusInternalServerError:
		failed.Transience = pgwire.Transient
	}
	return failed
}

// listHint returns a hint to append, with the command that lists the nodes where the target was
// not found.
func (f *Forward) listHint() string {
	return fmt.Sprintf(" `aws ssm describe-instance-information%s` lists the nodes of the account and region with their PingStatus.", f.cliFlags())
}

// cliFlags returns CLIFlags after a space.
func (f *Forward) cliFlags() string {
	if f.CLIFlags == "" {
		return ""
	}
	return " " + f.CLIFlags
}
