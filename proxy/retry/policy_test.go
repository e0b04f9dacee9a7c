package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const timeout = 30 * time.Second

// serverError returns an ErrorResponse of the server; tokenSent makes it the answer to a
// token.
func serverError(code string, phase pgwire.LoginPhase) *pgwire.ServerError {
	var server *pgwire.ServerError
	errors.As(pgwire.NewServerError(pgwire.Encode(&pgproto3.ErrorResponse{Code: code}), phase), &server)
	return server
}

func transient(t pgwire.Transience) error {
	return fmt.Errorf("attempt: %w", &pgwire.Error{Transience: t})
}

func TestNext(t *testing.T) {
	for name, test := range map[string]struct {
		err error
		// Whether it is retried: at first and after a third of the timeout, while the server
		// has accepted no login yet; and once it has.
		first, later, proven bool
	}{
		"starting up":            {serverError("57P03", pgwire.Authenticated), true, true, true},
		"shutting down":          {serverError("57P01", pgwire.Authenticated), true, true, true},
		"rate exceeded":          {serverError("53400", pgwire.Authenticated), true, true, true},
		"too many connections":   {serverError("53300", pgwire.Authenticated), false, false, false},
		"no such database":       {serverError("3D000", pgwire.Authenticated), false, false, false},
		"not in pg_hba.conf":     {serverError("28000", pgwire.Authenticated), false, false, false},
		"read-only instance":     {pgwire.NewError(pgwire.NotWritable, nil), true, true, true},
		"connection broken":      {io.ErrUnexpectedEOF, true, false, true},
		"no answer":              {os.ErrDeadlineExceeded, true, true, true},
		"transient":              {transient(pgwire.Transient), true, false, true},
		"transient if seen":      {transient(pgwire.IfSeenBefore), false, false, true},
		"permanent":              {transient(pgwire.Permanent), false, false, false},
		"permanent of a timeout": {pgwire.NewError(pgwire.TokenTimeout, context.DeadlineExceeded), false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c Controller
				p := c.Begin("u", timeout)
				defer p.End()
				try := func(when string, want bool) {
					if pause, again := p.Next(test.err, SameToken); again != want || again && (pause <= 0 || pause > 2*time.Second) {
						t.Errorf("%s: again is %v after %v, want %v", when, again, pause, want)
					}
				}
				try("at first", test.first)
				time.Sleep(11 * time.Second)
				try("later", test.later)
				p.Succeeded()
				try("after a success", test.proven)
			})
		})
	}
}

func TestBackOff(t *testing.T) {
	var c Controller
	p := c.Begin("u", timeout)
	defer p.End()
	for i, want := range []time.Duration{firstPause, 2 * firstPause, maxPause, maxPause} {
		pause, again := p.Next(serverError("57P03", pgwire.Authenticated), SameToken)
		if !again || pause < want/2 || pause > want*3/2 {
			t.Errorf("pause %d is %v, want about %v", i+1, pause, want)
		}
	}
	for range 100 { // the shift must not overflow
		if pause, _ := p.Next(serverError("57P03", pgwire.Authenticated), SameToken); pause < maxPause/2 || pause > maxPause*3/2 {
			t.Fatalf("pause %v, want about %v", pause, maxPause)
		}
	}
}

// If the server refuses several users at once whose tokens it has accepted, it throttles.
func TestRefusalsOfSeveralUsers(t *testing.T) {
	for name, test := range map[string]struct {
		authenticated, other bool          // the server has accepted a token of the user, of the other user
		before               time.Duration // the other user was refused so long before
		want                 bool
	}{
		"both authenticated":      {true, true, busyTime - 1, true},
		"longer ago":              {true, true, busyTime, false},
		"the other one never was": {true, false, 0, false},
		"the user never was":      {false, true, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			var c Controller
			refuse := func(user string, authenticated bool) bool {
				if authenticated {
					c.Authenticated(user)
				}
				p := c.Begin(user, timeout)
				defer p.End()
				_, again := p.Next(serverError("28000", pgwire.TokenSent), SameToken)
				return again
			}
			if refuse("other", test.other) {
				t.Errorf("%s: the first refusal counts as throttling", name)
			}
			time.Sleep(test.before)
			if got := refuse("u", test.authenticated); got != test.want {
				t.Errorf("%s: throttling is %v", name, got)
			}
			if refuse("u", false) != test.want {
				t.Errorf("%s: the user's next refusal counts otherwise", name)
			}
		})
	}
}

// If the server accepts no user any more, the refusals of several users are no throttling after a
// third of the timeout.
func TestRefusalsOfAllUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Controller
		throttled := func() (again bool) {
			for _, user := range []string{"a", "b"} {
				p := c.Begin(user, timeout)
				_, again = p.Next(serverError("28000", pgwire.TokenSent), SameToken)
				p.End()
			}
			return again
		}
		c.Authenticated("a")
		c.Authenticated("b")
		time.Sleep(time.Hour)
		for range 2 {
			begun := time.Now()
			for time.Since(begun) <= timeout/unprovenFraction {
				if !throttled() {
					t.Errorf("no throttling after %v", time.Since(begun))
				}
				time.Sleep(time.Second)
			}
			if throttled() {
				t.Errorf("throttling after %v", time.Since(begun))
			}
			c.Authenticated("other")
		}
		time.Sleep(refusalLifetime + 1)
		if !throttled() {
			t.Error("no throttling in a new series")
		}
	})
}

// A refused token is replaced once. With many logins of the user, refusals count as
// throttling for as long as that is likely.
func TestNextAfterRefusedToken(t *testing.T) {
	for name, test := range map[string]struct {
		logins        int
		authenticated bool
		lasts         time.Duration // how long refusals count as throttling
	}{
		"one login":                            {1, false, 0},
		"one login of an authenticated user":   {1, true, 0},
		"many logins":                          {busyLogins, false, timeout / unprovenFraction},
		"many logins of an authenticated user": {busyLogins, true, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c Controller
				c.SetRate(150)
				for range test.logins - 1 {
					defer c.Begin("u", timeout).End()
				}
				for range busyLogins { // of another user
					defer c.Begin("other", timeout).End()
				}
				if test.authenticated {
					c.Authenticated("u")
				}
				refused := serverError("28000", pgwire.TokenSent)
				next := func(token NextToken) (time.Duration, bool) {
					p := c.Begin("u", timeout)
					defer p.End()
					return p.Next(refused, token)
				}
				start := time.Now()
				if pause, again := next(NewToken); !again || pause != 0 {
					t.Errorf("with a new token: again is %v after %v", again, pause)
				}
				p := c.Begin("u", timeout)
				if pause, again := p.Next(refused, NewTokenLater); !again || pause == 0 {
					t.Errorf("with a new token later: again is %v after %v", again, pause)
				}
				for {
					pause, again := p.Next(refused, SameToken)
					if !again {
						break
					}
					time.Sleep(pause)
				}
				p.End()
				if lasted := time.Since(start); lasted < test.lasts || lasted > test.lasts+2*time.Second {
					t.Errorf("gave up after %v, want %v", lasted, test.lasts)
				}
				if _, again := next(SameToken); again {
					t.Error("a later login was retried with the same token, although the cause cannot be throttling")
				}
				other := c.Begin("other", timeout)
				defer other.End()
				if rate := other.user.limiter.currentRate(); rate != 150 {
					t.Errorf("the other user's rate is %v", rate)
				}
				c.Authenticated("u")
				if _, again := next(SameToken); again != (test.logins >= busyLogins) {
					t.Errorf("after the user was authenticated: again is %v", again)
				}
			})
		})
	}
}

// A login without a limit begins at once; one that has passed the user's limiter does not
// queue there again.
func TestPolicyPassesBothLimiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Controller
		p := c.Begin("u", timeout)
		defer p.End()
		for range 1000 {
			if !p.Allow() {
				t.Fatal("limited without a rate")
			}
		}
		c.limiter.throttle()
		useUp(&c.limiter)
		p.user.limiter.rate = 0.01
		if p.Allow() {
			t.Fatal("allowed beyond the limit of all users")
		}
		start := time.Now()
		if err := p.Wait(t.Context()); err != nil || time.Since(start) > time.Second {
			t.Errorf("waited %v: %v", time.Since(start), err)
		}
	})
}

func TestWaitErrors(t *testing.T) {
	disconnected := errors.New("client disconnected")
	for name, test := range map[string]struct {
		user    bool   // the user's limiter is the slow one, not that of all users
		refused string // the SQLSTATE of the user's refused login, if any
		cause   error
		want    func(error) bool
	}{
		"all users' queue is full":                   {false, "", nil, isQueueFull},
		"all users' queue is full, and refusals":     {false, "28000", nil, isQueueFull},
		"the user's queue is full":                   {true, "", nil, isQueueFull},
		"the user's queue is full of refused logins": {true, "28000", nil, func(err error) bool { return pgwire.ReasonOf(err) == pgwire.TokenRefused }},
		"the user's queue is full, and a rate limit": {true, "53400", nil, func(err error) bool { return pgwire.SQLSTATE(err) == "53400" }},
		"disconnected in all users' queue":           {false, "28000", disconnected, func(err error) bool { return errors.Is(err, disconnected) }},
		"disconnected in the user's queue":           {true, "28000", disconnected, func(err error) bool { return errors.Is(err, disconnected) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c Controller
				p := c.Begin("u", time.Second)
				defer p.End()
				if test.refused != "" {
					p.Next(serverError(test.refused, pgwire.TokenSent), SameToken)
				}
				slow := &c.limiter
				if test.user {
					slow = &p.user.limiter
				}
				slow.rate = 0.1
				useUp(slow)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.cause == nil {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, time.Second)
					defer stop()
				} else {
					time.AfterFunc(time.Second/2, func() { cancel(test.cause) })
				}
				if p.Allow() {
					t.Fatal("allowed beyond the limit")
				}
				if err := p.Wait(ctx); !test.want(err) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func isQueueFull(err error) bool { return pgwire.ReasonOf(err) == pgwire.QueueFull }

func TestKnownUsers(t *testing.T) {
	var c Controller
	if users := c.KnownUsers(); len(users) != 0 {
		t.Errorf("got %v at first", users)
	}
	defer c.Begin("unknown", timeout).End()
	c.Authenticated("known")
	if users := c.KnownUsers(); len(users) != 1 || users[0] != "known" {
		t.Errorf("got %v", users)
	}
}

func TestUsersAreLimited(t *testing.T) {
	var c Controller
	running := c.Begin("running", timeout)
	defer running.End()
	for i := range maxUsers + 100 {
		p := c.Begin(fmt.Sprint("user", i), timeout)
		p.Next(serverError("28000", pgwire.TokenSent), SameToken)
		p.End()
	}
	if n := len(c.history.users); n > maxUsers {
		t.Errorf("%d users are remembered", n)
	}
	if c.history.users["running"] != running.user {
		t.Error("a user with a running login was forgotten")
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("returned after %v: %v", time.Since(start), err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := Sleep(ctx, time.Second); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Errorf("beyond the deadline: returned after %v: %v", time.Since(start), err)
		}

		cause := errors.New("client disconnected")
		canceled, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(cause) })
		if err := Sleep(canceled, time.Minute); !errors.Is(err, cause) || time.Since(start) != time.Second {
			t.Errorf("canceled: returned after %v: %v", time.Since(start), err)
		}
	})
}

// replacements is a source of tokens.
type replacements struct {
	another bool
	next    string
	err     error
}

func (r replacements) Token(context.Context, string) (string, error) { return r.next, r.err }
func (r replacements) Invalidate(string, string) bool                { return r.another }

func TestReplace(t *testing.T) {
	refused := serverError("28000", pgwire.TokenSent)
	for name, test := range map[string]struct {
		err    error
		tokens replacements
		want   NextToken
	}{
		"not refused":    {io.EOF, replacements{another: true, next: "new"}, SameToken},
		"not replaced":   {refused, replacements{next: "new"}, SameToken},
		"equal so far":   {refused, replacements{another: true, next: "old"}, NewTokenLater},
		"not signed yet": {refused, replacements{another: true, err: io.EOF}, NewTokenLater},
		"replaced":       {refused, replacements{another: true, next: "new"}, NewToken},
	} {
		if got := Replace(t.Context(), test.tokens, "u", "old", test.err); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
