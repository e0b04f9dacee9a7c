// Package check diagnoses login failures. It runs each step of a connection, from the
// name of the endpoint to the first query, and reports which steps fail, why, and the
// command to run next. After a failure it continues with the steps that do not depend on
// it. It changes nothing.
//
// The steps are in these files: credentials in signing.go, requests to AWS in
// permission.go, the connection in network.go, the login in login.go, and what it shows in session.go.
// verdict.go determines the root cause of several failures.
package check

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/retry"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// The names of the steps, in their order.
const (
	Endpoint    = "endpoint"
	Credentials = "credentials"
	Identity    = "identity"
	Database    = "database"
	Policy      = "policy"
	Clock       = "clock"
	DNS         = "dns"
	Session     = "session"
	TCP         = "tcp"
	TLS         = "tls"
	Login       = "login"
	RDSIAM      = "rds_iam"
	Writes      = "writes"
	RoundTrip   = "round trip"
)

// State is the outcome of a step. The values are stable: scripts may depend on them.
type State string

// The states of a step. The check fails if one is Failed.
const (
	OK           State = "ok"
	Failed       State = "failed"
	NotPermitted State = "not permitted" // the caller lacks the permission to check this
	NoAnswer     State = "no answer"     // AWS did not answer, as many networks block it
	NotTried     State = "not tried"     // another step failed, or the step does not apply
)

// stepTimeout limits each step, so that there is time for the others.
const stepTimeout = 10 * time.Second

// Step is the result of a step.
type Step struct {
	Name    string  `json:"name"`
	State   State   `json:"state"`
	Reason  string  `json:"reason"`  // a pgwire.Reason or auth.Reason; empty if unknown
	Found   string  `json:"found"`   // one line
	Next    string  `json:"next"`    // lines for a shell: commands, and advice after a #; empty unless the step failed
	Seconds float64 `json:"seconds"` // rounded to milliseconds

	because string // the failed step that prevented this one
}

// Report is the result of a check.
type Report struct {
	Endpoint string `json:"endpoint"`
	User     string `json:"user"`
	Database string `json:"database"`
	OK       bool   `json:"ok"`     // the user can log in and no step failed
	Reason   string `json:"reason"` // as in Step, of the cause; empty if OK or unknown
	Cause    string `json:"cause"`  // the likeliest cause, in one line; empty if OK
	Next     string `json:"next"`   // as in Step, for the cause; empty if OK
	More     string `json:"more"`   // URL of the documentation of Reason; empty if there is no Reason
	Steps    []Step `json:"steps"`
}

// Check is a check of a login of one user to one database. All fields but CAFile, OpenSession and
// Observe are required. The environment must have none of libpq's variables, which pgx
// would read.
type Check struct {
	// Endpoint has the name of the database, the user and the database.
	Endpoint endpoint.Endpoint
	// CAFile is the file of the roots that Dialer trusts, or empty.
	CAFile string
	// Identity has the credentials. Its Load must have been called.
	Identity *auth.Identity
	// Dialer connects to the database.
	Dialer *upstream.Dialer
	// Tokens has the tokens of Identity.
	Tokens retry.Tokens
	// OpenSession waits until the session of Session Manager is open that Dialer connects
	// through, and describes it. It is nil if there is no session.
	OpenSession func(ctx context.Context) (found string, err error)
	// Observe is called after each step. It may be nil.
	Observe func(Step)
}

// attempt is what a step does.
type attempt struct {
	name  string
	needs []string // the steps that it is not tried without
	do    func(*run, context.Context) result
}

// steps lists the steps in order.
var steps = []attempt{
	{Endpoint, nil, (*run).endpoint},
	{Credentials, nil, (*run).credentials},
	{Identity, []string{Credentials}, (*run).identity},
	{Database, []string{Credentials, Identity}, (*run).database},
	{Policy, []string{Credentials, Identity}, (*run).policy},
	{Clock, []string{Credentials}, (*run).clock}, // after the requests to AWS, whose responses have the time
	{DNS, nil, (*run).dns},
	{Session, nil, (*run).session},
	{TCP, []string{DNS, Session}, (*run).tcp},
	{TLS, []string{TCP}, (*run).tls},
	{Login, []string{Credentials, TLS}, (*run).login},
	{RDSIAM, []string{Login}, (*run).rdsIAM},
	{Writes, []string{Login}, (*run).writes},
	{RoundTrip, []string{Login}, (*run).roundTrip},
}

// Run runs the steps until ctx is done.
func (c *Check) Run(ctx context.Context) Report {
	r := &run{Check: c}
	defer r.close()
	for _, step := range steps {
		if errors.Is(ctx.Err(), context.Canceled) {
			break // the report is not needed
		}
		r.try(ctx, step)
	}
	return r.report()
}

// try runs a step and records its result. Without a session of Session Manager, there is no step
// for it.
func (r *run) try(ctx context.Context, step attempt) {
	if step.name == Session && r.OpenSession == nil {
		return
	}
	began := time.Now()
	res := r.skipReason(ctx, step.needs)
	if res.state == "" {
		res = r.runStep(ctx, step.do)
	}
	r.record(step.name, res, time.Since(began))
}

// run is one run of a Check.
type run struct {
	*Check
	steps []Step
	seen  evidence

	aws   *rdsapi.Client  // set by database
	probe *upstream.Probe // set by tcp
	conn  *pgconn.PgConn  // set by login
}

// result holds the outcome of a step until it is recorded.
type result struct {
	state       State
	reason      string
	found, next string // next is as in Step
	because     string
}

func ok(found string) result { return result{state: OK, found: found} }
func failed(found, next string) result {
	return result{state: Failed, found: found, next: text.OneLine(next)}
}
func notPermitted(found string) result { return result{state: NotPermitted, found: found} }
func noAnswer(found string) result     { return result{state: NoAnswer, found: found} }
func notTried(why string) result       { return result{state: NotTried, found: why} }
func notTriedBecause(step string) result {
	return result{state: NotTried, found: "because of " + step, because: step}
}

// withReason returns res with a reason.
func (res result) withReason(reason string) result {
	res.reason = reason
	return res
}

// readBefore returns res with a line of advice before its command.
func (res result) readBefore(sentences string) result {
	res.next = text.OneLine(advice(sentences)) + "\n" + res.next
	return res
}

// reasonOf returns the Reason of an error of package proxy or auth, or "".
func reasonOf(err error) string {
	var credentials *auth.Error
	if errors.As(err, &credentials) {
		return cmp.Or(string(pgwire.ReasonOf(err)), credentials.Reason())
	}
	return string(pgwire.ReasonOf(err))
}

func (r *run) stateOf(name string) State { return find(r.steps, name).State }

// skipReason returns the result of a step that cannot be tried, or the zero value.
func (r *run) skipReason(ctx context.Context, needs []string) result {
	if ctx.Err() != nil {
		return notTried("because the timeout has passed")
	}
	for _, name := range needs {
		switch needed := find(r.steps, name); {
		case needed.State == Failed:
			return notTriedBecause(name)
		case needed.because != "":
			return notTriedBecause(needed.because)
		}
	}
	return result{}
}

// runStep runs a step. A failure after the time of the whole check may have no other cause.
func (r *run) runStep(all context.Context, do func(*run, context.Context) result) result {
	ctx, cancel := context.WithTimeout(all, stepTimeout)
	defer cancel()
	res := do(r, ctx)
	if res.state == Failed && all.Err() != nil {
		res.found, res.next = "the timeout has passed: "+res.found, r.withMoreTime()
	}
	return res
}

// withMoreTime returns the command line of this check with a longer timeout.
func (r *run) withMoreTime() string { return r.again("--timeout", "2m") }

// record adds the result of a step, and reports it to Observe.
func (r *run) record(name string, res result, took time.Duration) {
	step := Step{
		Name:    name,
		State:   res.state,
		Reason:  res.reason,
		Found:   text.OneLine(res.found),
		Next:    res.next,
		Seconds: math.Round(took.Seconds()*1000) / 1000,
		because: res.because,
	}
	r.steps = append(r.steps, step)
	if r.Observe != nil {
		r.Observe(step)
	}
}

func (r *run) report() Report {
	rep := Report{Endpoint: r.Dialer.Endpoint, User: r.Endpoint.User, Database: r.Endpoint.Database, Steps: r.steps}
	rep.OK, rep.Cause, rep.Next = verdict(r.Endpoint.User, r.steps, r.seen)
	rep.Reason = rootCause(r.steps, r.seen).Reason
	if !rep.OK && rep.Next == "" {
		rep.Next = r.withMoreTime()
	}
	rep.More = text.ReasonURL(rep.Reason)
	return rep
}

// close closes the connections.
func (r *run) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if r.conn != nil {
		r.conn.Close(ctx)
	}
	if r.probe != nil {
		r.probe.Close()
	}
}

// find returns the step with a name, or the zero value.
func find(steps []Step, name string) Step {
	for _, s := range steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}
