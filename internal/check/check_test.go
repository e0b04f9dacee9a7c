package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/conntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A step is one line, and does not control the terminal.
func TestRecord(t *testing.T) {
	r := newRun("app")
	var observed []Step
	r.Observe = func(s Step) { observed = append(observed, s) }
	r.record(Login, failed("\x1b[2Jtwo\nlines", "echo\x00 a\r\nb"), 1234567*time.Microsecond)
	want := Step{Name: Login, State: Failed, Found: "[2Jtwo lines", Next: "echo a b", Seconds: 1.235}
	if !slices.Equal(r.steps, []Step{want}) || !slices.Equal(observed, r.steps) {
		t.Errorf("recorded %+v, observed %+v", r.steps, observed)
	}
}

// A step is not tried because of the first of its needs that failed.
func TestSkipReason(t *testing.T) {
	r := newRun("app")
	r.steps = []Step{failing(TCP), skipped(TLS, TCP), failing(Credentials), unchecked(Database), {Name: DNS, State: NotTried}}
	for name, needs := range map[string][]string{"": {Database, DNS}, TCP: {TLS, Credentials}, Credentials: {DNS, Credentials, TLS}} {
		res := r.skipReason(t.Context(), needs)
		if res.because != name || (res.state == NotTried) != (name != "") {
			t.Errorf("%q: %+v", needs, res)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if res := r.skipReason(done, nil); res.state != NotTried || res.because != "" {
		t.Errorf("the time was up: %+v", res)
	}
}

func TestRunStep(t *testing.T) {
	r := newRun("app")
	fail := func(*run, context.Context) result { return failed("reason", "fix") }
	if res := r.runStep(t.Context(), fail); res.found != "reason" || res.next != "fix" {
		t.Errorf("in time: %+v", res)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if res := r.runStep(done, fail); res.found != "the timeout has passed: reason" || res.next != "iamproxy check "+host+" --user app --timeout 2m" {
		t.Errorf("at the end: %+v", res)
	}
}

func TestReasonOf(t *testing.T) {
	noCredentials := &auth.Error{Code: auth.ReasonNoCredentials}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("other"), ""},
		{noCredentials, "no_credentials"},
		{pgwire.NewError(pgwire.DialRefused, nil, "host"), "dial_refused"},
		{pgwire.NewError(pgwire.NoToken, noCredentials, "app"), "no_token"}, // as in the log
	} {
		if got := reasonOf(fmt.Errorf("wrapped: %w", test.err)); got != test.want {
			t.Errorf("%v: reason %q, want %q", test.err, got, test.want)
		}
	}
}

// The steps of a connection report the reasons of package proxy.
func TestReasons(t *testing.T) {
	r := newRun("app")
	r.Dialer.Via = conntest.ClosedAddress(t)
	defer r.close()
	r.record(TCP, r.tcp(t.Context()), 0)
	r.Dialer.Via = "no..host:5432" // fails without a query
	r.record(DNS, r.dns(t.Context()), 0)
	for name, want := range map[string]pgwire.Reason{TCP: pgwire.DialRefused, DNS: pgwire.ResolveFailed} {
		if s := find(r.steps, name); s.State != Failed || s.Reason != string(want) {
			t.Errorf("%s: %+v, want reason %s", name, s, want)
		}
	}
}

// A session that cannot be opened is the cause, and the steps after it are not tried. Without one,
// there is no such step.
func TestSession(t *testing.T) {
	denied := pgwire.NewError(pgwire.SSMAccessDenied, errors.New("ssm:StartSession is not allowed"), "i-01")
	denied.Hint = "Allow it."
	rejected := pgwire.NewSessionError("i-01", &auth.Error{Code: auth.ReasonCredentialsRejected})
	c := *newRun("app").Check
	c.Identity = &auth.Identity{}
	for name, test := range map[string]struct {
		open  func(context.Context) (string, error)
		state State
	}{
		"denied":   {func(context.Context) (string, error) { return "", denied }, Failed},
		"rejected": {func(context.Context) (string, error) { return "", rejected }, Failed},
		"none":     {nil, ""},
	} {
		c.OpenSession = test.open
		r := &run{Check: &c}
		for _, step := range steps {
			if step.name == Session || test.open != nil && (step.name == DNS || step.name == TCP) {
				r.try(t.Context(), step)
			}
		}
		s := find(r.steps, Session)
		if s.State != test.state {
			t.Fatalf("%s: %+v", name, r.steps)
		}
		if want := name == "rejected"; r.seen.rejected != want {
			t.Errorf("%s: rejected %v", name, !want)
		}
		if name != "denied" {
			continue
		}
		if s.Reason != "ssm_access_denied" || s.Found != "could not open the Session Manager session to i-01: ssm:StartSession is not allowed" || s.Next != "# Allow it." {
			t.Errorf("%+v", s)
		}
		if tcp := find(r.steps, TCP); tcp.State != NotTried || tcp.because != Session || rootCause(r.steps, r.seen).Name != Session {
			t.Errorf("%+v", r.steps)
		}
	}
}
