package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func said(code string, tokenSent bool) *pgwire.ServerError {
	var server *pgwire.ServerError
	errors.As(pgwire.NewServerError(pgwire.Encode(&pgproto3.ErrorResponse{Code: code}), tokenSent), &server)
	return server
}

func TestWhatIsTriedAgain(t *testing.T) {
	refused := (&Proxy{}).dialError(syscall.ECONNREFUSED)
	for name, test := range map[string]struct {
		err error
		// again: of a database that has never answered, at first and after a third
		// of the time, and of one that has.
		first, later, worked bool
	}{
		"starting up":              {said("57P03", false), true, true, true},
		"stopping":                 {said("57P01", false), true, true, true},
		"rate exceeded":            {said("53400", false), true, true, true},
		"too many connections":     {said("53300", false), false, false, false},
		"no such database":         {said("3D000", false), false, false, false},
		"not in pg_hba.conf":       {said("28000", false), false, false, false},
		"connection refused":       {refused, true, false, true},
		"connection broken":        {io.ErrUnexpectedEOF, true, false, true},
		"no answer":                {os.ErrDeadlineExceeded, true, true, true},
		"a reader":                 {pgwire.NewError(pgwire.NotWritable, nil), true, true, true},
		"no such name":             {(&Proxy{}).dialError(&net.DNSError{IsNotFound: true}), false, false, true},
		"certificate not trusted":  {(&Proxy{}).handshakeError(x509.UnknownAuthorityError{}), false, false, false},
		"another kind of password": {pgwire.NewError(pgwire.PasswordRequested, nil), false, false, false},
		"no credentials":           {tokenError("u", errors.New("none")), false, false, false},
		"no credentials in time":   {tokenError("u", context.DeadlineExceeded), false, false, false},
		"client gone":              {fmt.Errorf("%w: %w", errClientLeft, io.EOF), false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{}
				p := persistence{history: h, pacer: &pacer{}, user: "u", timeout: 30 * time.Second, began: time.Now()}
				try := func(when string, want bool) {
					if pause, yes := p.again(test.err, noOther); yes != want || yes && (pause <= 0 || pause > 2*time.Second) {
						t.Errorf("%s: again %v after %v, want %v", when, yes, pause, want)
					}
				}
				try("at first", test.first)
				time.Sleep(11 * time.Second)
				try("later", test.later)
				h.succeeded()
				try("of one that has worked", test.worked)
			})
		})
	}
}

// A refused token is tried once more; under load it is taken for throttling, as
// long as that is likely.
func TestRefusedTokens(t *testing.T) {
	for name, test := range map[string]struct {
		load  int
		letIn bool
		lasts time.Duration // of refusals that are taken for throttling
	}{
		"one login":                         {1, false, 0},
		"one login of a known user":         {1, true, 0},
		"many logins of a stranger":         {load, false, 10 * time.Second},
		"many logins of a user let in once": {load, true, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{rate: 150}
				for range test.load {
					defer h.begin("u")()
				}
				for range load { // of somebody else
					defer h.begin("other")()
				}
				if test.letIn {
					h.letIn("u")
				}
				login := func() persistence {
					return persistence{history: h, pacer: &pacer{}, user: "u", timeout: 30 * time.Second, began: time.Now()}
				}
				start := time.Now()
				p := login()
				if pause, yes := p.again(said("28P01", true), otherNow); !yes || pause != 0 {
					t.Errorf("with another token at hand: %v after %v", yes, pause)
				}
				p = login()
				if pause, yes := p.again(said("28000", true), otherLater); !yes || pause == 0 {
					t.Errorf("with another one later: %v after %v", yes, pause)
				}
				for {
					pause, yes := p.again(said("28000", true), noOther)
					if !yes {
						break
					}
					time.Sleep(pause)
				}
				if lasted := time.Since(start); lasted < test.lasts || lasted > test.lasts+2*time.Second {
					t.Errorf("given up after %v, want %v", lasted, test.lasts)
				}
				p = login()
				if _, yes := p.again(said("28000", true), noOther); yes {
					t.Error("a later login is tried again with the same token, though it must be for another reason")
				}
				if rate := h.pacer("other").current(); rate != h.rate {
					t.Errorf("other users are slowed down to %v", rate)
				}
				h.letIn("u")
				if _, yes := p.again(said("28000", true), noOther); yes != (test.load >= load) {
					t.Errorf("once the user was let in: %v", yes)
				}
			})
		})
	}
}

func TestUsersRememberedAreBounded(t *testing.T) {
	h := &history{}
	for i := range maxUsers + 100 {
		end := h.begin(fmt.Sprint("user", i))
		h.refused(fmt.Sprint("user", i), said("28000", true), time.Second)
		end()
	}
	if len(h.users) > maxUsers {
		t.Errorf("%d users are remembered", len(h.users))
	}
}

// A server that says that it is starting up is asked until it has started.
func TestServerStartsUp(t *testing.T) {
	var logins atomic.Int32
	ca, s := good(t, func(p *peer) {
		if logins.Add(1) < 3 {
			p.startup()
			p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
			return
		}
		p.logIn()
		p.echo()
	})
	_, address := start(t, ca, s, nil)
	connected(t, address)
	if n := logins.Load(); n != 3 {
		t.Errorf("%d logins", n)
	}
}

// One that never has is quoted.
func TestServerNeverStarts(t *testing.T) {
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
	})
	_, address := start(t, ca, s, func(p *Proxy) { p.ConnectTimeout = time.Second })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != "57P03" || e.Message != "the database system is starting up" {
		t.Errorf("got %+v", e)
	}
}

// A connection that breaks during login is that of a server that restarts.
func TestServerBreaksOffOnce(t *testing.T) {
	var logins atomic.Int32
	ca, s := good(t, func(p *peer) {
		if logins.Add(1) == 1 {
			p.startup()
			p.ask()
			p.send(okay, &pgproto3.ParameterStatus{Name: "from", Value: "the first"}, key)
			return
		}
		p.startup()
		p.ask()
		p.send(okay, ready)
		p.echo()
	})
	_, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(append(pgwire.Encode(okay), pgwire.Encode(ready)...)) // and nothing of the first
}

// A client that leaves while its login waits for its turn costs no login, and one
// that speaks too early loses nothing.
func TestClientWhileItWaits(t *testing.T) {
	var logins atomic.Int32
	ca, s := good(t, func(p *peer) {
		logins.Add(1)
		p.logIn()
		p.echo()
	})
	proxy, address := start(t, ca, s, func(p *Proxy) { p.ConnectRate = 2 })
	for range 10 { // few enough not to be told that there are too many
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.Close()
	}
	waiting := func() int {
		proxy.pacer.mu.Lock()
		defer proxy.pacer.mu.Unlock()
		return len(proxy.pacer.waiting)
	}
	early := dial(t, address)
	early.send(append(ordinaryStartup, "early"...))
	for {
		m := early.message()
		if m == nil {
			t.Fatal("connection rejected")
		}
		if m[0] == pgwire.ReadyForQuery {
			break
		}
	}
	early.expect([]byte("early"))
	early.send([]byte("late"))
	early.expect([]byte("late"))
	for deadline := time.Now().Add(limit); waiting() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d still wait", waiting())
		}
	}
	if n := logins.Load(); n > 4 {
		t.Errorf("%d logins for one client that stayed", n)
	}
}

// Who waits behind a crowd of a user's that is refused hears of the refusal, and
// not of a crowd.
func TestQueueBehindRefusals(t *testing.T) {
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.ask()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
	})
	_, address := start(t, ca, s, func(p *Proxy) { p.ConnectRate, p.ConnectTimeout = 150, 3*time.Second })
	var all sync.WaitGroup
	for range 40 {
		client := dial(t, address)
		client.send(ordinaryStartup)
		all.Go(func() {
			m, err := pgwire.ReadMessage(client)
			var e pgproto3.ErrorResponse
			if err != nil || m.Type() != pgwire.ErrorResponse || e.Decode(m.Body()) != nil || e.Code != "28000" || e.Hint != "refused hint for alice" {
				t.Errorf("got %v, %+v", err, e)
			}
		})
	}
	all.Wait()
}

func TestQueueTooLong(t *testing.T) {
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	_, address := start(t, ca, s, func(p *Proxy) { p.ConnectRate, p.ConnectTimeout = 1, 3*time.Second })
	connected(t, address)
	told := make(chan pgproto3.ErrorResponse, 20)
	for range 20 {
		client := dial(t, address)
		client.send(ordinaryStartup)
		go func() {
			m, err := pgwire.ReadMessage(client)
			var e pgproto3.ErrorResponse
			if err == nil && m.Type() == pgwire.ErrorResponse && e.Decode(m.Body()) == nil {
				told <- e
			}
		}()
	}
	if e := <-told; e.Code != "08006" || !strings.Contains(e.Message, "wait for their turn") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
}
