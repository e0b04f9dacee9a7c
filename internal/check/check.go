// Package check walks the way from a database's name to its first answer, step by
// step, and says which step holds, which does not, and what to do about it. It goes on
// behind what fails wherever the next step can still tell something, and changes nothing.
//
// The steps stand in files of their own: whose token it is (signing.go), what AWS knows
// of it (permission.go), the way to the server (network.go), and the session
// (session.go). Which of several failures is to blame is in verdict.go.
package check

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy"
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
	TCP         = "tcp"
	TLS         = "tls"
	Login       = "login"
	RDSIAM      = "rds_iam"
	Writes      = "writes"
	RoundTrip   = "round trip"
)

// State is what became of a step. The words are for people and for programs, and stay.
type State string

// The states. Only Failed is a failure.
const (
	OK           State = "ok"
	Failed       State = "failed"
	NotPermitted State = "not permitted" // to look; it may be in order
	NoAnswer     State = "no answer"     // from AWS, which many networks do not let through; it may be in order
	NotTried     State = "not tried"     // for what failed before, or since it does not apply
)

const (
	// stepTimeout bounds each step, so that one that hangs leaves time for the others.
	stepTimeout = 10 * time.Second
	// loginTimeout is what is left of that for a login, so that there is time to tell why
	// it took so long.
	loginTimeout = 9 * time.Second
)

// Step is one that was taken.
type Step struct {
	Name    string  `json:"name"`
	State   State   `json:"state"`
	Found   string  `json:"found"`   // in one line
	Next    string  `json:"next"`    // what to do if it failed: a line for a shell or, behind #, in words
	Seconds float64 `json:"seconds"` // that it took, to the millisecond

	because string // the step that failed, if this one was not tried for that
}

// Report is how it went.
type Report struct {
	Endpoint string `json:"endpoint"`
	User     string `json:"user"`
	Database string `json:"database"`
	OK       bool   `json:"ok"`    // the user can log in, and nothing failed
	Cause    string `json:"cause"` // the likeliest, in one line; empty if OK
	Next     string `json:"next"`  // what to do first, as in Step; empty if OK
	Steps    []Step `json:"steps"`
}

// Check is one database, and who wants to log in to it. All fields but Target and the
// last two must be set. Of libpq's environment variables there must be none, which its client would heed.
type Check struct {
	Host, Port     string    // as AWS names the database
	Name           auth.Name // what Host says
	Region         string    // what tokens are signed for
	User, Database string
	// Target is what the endpoint's key target says; may be empty.
	Target string
	// Writer is whether sessions are to take writes.
	Writer bool
	// Identity signs. Its Load was called.
	Identity *auth.Identity
	// Proxy is what would serve the database. It must not serve anybody else, and is
	// shut down in the end. Of its fields it has those that say how to get there, and Tokens.
	Proxy *proxy.Proxy

	// Options are in which way a line to paste has to say who signs, and how the
	// database is reached. They may be empty.
	Options Options
	// Observe is told of each step when it was taken. May be nil.
	Observe func(Step)
}

// Options are flags of iamproxy, with their values.
type Options struct {
	Profile string   // that signs; empty: the SDK's own chain
	Sign    []string // such as --profile dev
	Reach   []string // such as --via localhost:15432
}

// steps are those to take. One is not tried if what it needs has failed.
var steps = []struct {
	name  string
	needs []string
	take  func(*walk, context.Context) result
}{
	{Endpoint, nil, (*walk).endpoint},
	{Credentials, nil, (*walk).credentials},
	{Identity, []string{Credentials}, (*walk).identity},
	{Database, []string{Credentials, Identity}, (*walk).database},
	{Policy, []string{Credentials, Identity}, (*walk).policy},
	{Clock, []string{Credentials}, (*walk).clock}, // after all of AWS's answers, each of which has the time
	{DNS, nil, (*walk).dns},
	{TCP, []string{DNS}, (*walk).tcp},
	{TLS, []string{TCP}, (*walk).tls},
	{Login, []string{Credentials, TLS}, (*walk).login},
	{RDSIAM, []string{Login}, (*walk).rdsIAM},
	{Writes, []string{Login}, (*walk).writes},
	{RoundTrip, []string{Login}, (*walk).roundTrip},
}

// Run takes the steps, until ctx is done.
func (c *Check) Run(ctx context.Context) Report {
	c.Proxy.ConnectTimeout = loginTimeout
	w := &walk{Check: c}
	defer w.end()
	for _, step := range steps {
		if errors.Is(ctx.Err(), context.Canceled) {
			break // nobody waits for the others
		}
		began := time.Now()
		r := w.blocked(ctx, step.needs)
		if r.state == "" {
			r = w.bounded(ctx, step.take)
		}
		w.note(step.name, r, time.Since(began))
	}
	return w.report()
}

// walk is one run, and what was found on the way.
type walk struct {
	*Check
	steps []Step
	seen  evidence

	aws     *rdsapi.Client // once there are credentials
	reached *proxy.Reached // once there is TCP
	conn    *pgconn.PgConn // once logged in
}

// result is what a step returns.
type result struct {
	state       State
	found, next string
	because     string
}

func ok(found string) result           { return result{state: OK, found: found} }
func failed(found, next string) result { return result{state: Failed, found: found, next: next} }
func notPermitted(found string) result { return result{state: NotPermitted, found: found} }
func noAnswer(found string) result     { return result{state: NoAnswer, found: found} }
func doesNotApply(why string) result   { return result{state: NotTried, found: why} }
func notTriedFor(step string) result {
	return result{state: NotTried, found: "because of " + step, because: step}
}
func (w *walk) stateOf(name string) State { return find(w.steps, name).State }

// blocked is why a step cannot be taken; its zero value if it can.
func (w *walk) blocked(ctx context.Context, needs []string) result {
	if ctx.Err() != nil {
		return doesNotApply("because the time is up")
	}
	for _, name := range needs {
		switch needed := find(w.steps, name); {
		case needed.State == Failed:
			return notTriedFor(name)
		case needed.because != "":
			return notTriedFor(needed.because)
		}
	}
	return result{}
}

func (w *walk) bounded(all context.Context, take func(*walk, context.Context) result) result {
	ctx, cancel := context.WithTimeout(all, stepTimeout)
	defer cancel()
	r := take(w, ctx)
	if r.state == Failed && all.Err() != nil { // for which there may be no other reason
		r.found, r.next = "the time was up: "+r.found, w.moreTime()
	}
	return r
}

func (w *walk) moreTime() string { return w.again("--timeout", "2m") }

func (w *walk) note(name string, r result, took time.Duration) {
	step := Step{
		Name:    name,
		State:   r.state,
		Found:   text.OneLine(r.found),
		Next:    text.OneLine(r.next),
		Seconds: math.Round(took.Seconds()*1000) / 1000,
		because: r.because,
	}
	w.steps = append(w.steps, step)
	if w.Observe != nil {
		w.Observe(step)
	}
}

func (w *walk) report() Report {
	r := Report{Endpoint: w.Proxy.Endpoint, User: w.User, Database: w.Database, Steps: w.steps}
	r.OK, r.Cause, r.Next = verdict(w.User, w.steps, w.seen)
	if !r.OK && r.Next == "" {
		r.Next = w.moreTime()
	}
	return r
}

// end leaves the server, with as few words as possible.
func (w *walk) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if w.conn != nil {
		w.conn.Close(ctx)
	}
	if w.reached != nil {
		w.reached.Close()
	}
	w.Proxy.Shutdown(ctx)
}

// find is the step of that name; its zero value if it was not taken.
func find(steps []Step, name string) Step {
	for _, s := range steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}
