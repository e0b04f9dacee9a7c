package check

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever others say, a step is one line that does nothing to a terminal.
func TestNote(t *testing.T) {
	w := newWalk("app")
	var told []Step
	w.Observe = func(s Step) { told = append(told, s) }
	w.note(Login, failed("\x1b[2Jtwo\nlines", "echo\x00 a\r\nb"), 1234567*time.Microsecond)
	want := Step{Name: Login, State: Failed, Found: "[2Jtwo lines", Next: "echo a b", Seconds: 1.235}
	if !slices.Equal(w.steps, []Step{want}) || !slices.Equal(told, w.steps) {
		t.Errorf("noted %+v, told %+v", w.steps, told)
	}
}

// A step is not tried for what failed first on the way to it.
func TestBlocked(t *testing.T) {
	w := newWalk("app")
	w.steps = []Step{bad(TCP), after(TLS, TCP), bad(Credentials), blind(Database), {Name: DNS, State: NotTried}}
	for name, needs := range map[string][]string{"": {Database, DNS}, TCP: {TLS, Credentials}, Credentials: {DNS, Credentials, TLS}} {
		r := w.blocked(t.Context(), needs)
		if r.because != name || (r.state == NotTried) != (name != "") {
			t.Errorf("%q: %+v", needs, r)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if r := w.blocked(over, nil); r.state != NotTried || r.because != "" {
		t.Errorf("the time was up: %+v", r)
	}
}

// What fails as the time runs out may have no other reason.
func TestBounded(t *testing.T) {
	w := newWalk("app")
	fail := func(*walk, context.Context) result { return failed("reason", "mend") }
	if r := w.bounded(t.Context(), fail); r.found != "reason" || r.next != "mend" {
		t.Errorf("in time: %+v", r)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if r := w.bounded(over, fail); r.found != "the time was up: reason" || r.next != "iamproxy check "+host+" --user app --timeout 2m" {
		t.Errorf("at the end: %+v", r)
	}
}

func TestPipes(t *testing.T) {
	p := newPipes()
	accepted := make(chan error, 1)
	go func() {
		conn, err := p.Accept()
		if err == nil {
			conn.Close()
		}
		accepted <- err
	}()
	conn, err := p.dial(t.Context(), "tcp", "")
	if err != nil || <-accepted != nil {
		t.Fatalf("dial: %v", err)
	}
	conn.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.dial(gone, "tcp", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts, and nobody waits: %v", err)
	}
	p.Close()
	p.Close()
	if _, err := p.Accept(); err == nil {
		t.Error("accepted behind the end")
	}
	if _, err := p.dial(t.Context(), "tcp", ""); err == nil {
		t.Error("connected behind the end")
	}
}
