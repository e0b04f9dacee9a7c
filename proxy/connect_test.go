package proxy

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A server that is starting up is retried until it has started.
func TestServerStartsUp(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	ca, s := trustedServer(t, func(p *peer) {
		if logins.Add(1) < 3 {
			p.startup()
			p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
			return
		}
		p.acceptLogin()
		p.echo()
	})
	_, address := startProxy(t, ca, s, nil)
	openSession(t, address)
	if n := logins.Load(); n != 3 {
		t.Errorf("%d logins", n)
	}
}

// The client receives the last error of a server that never starts.
func TestServerNeverStarts(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"})
	})
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 3 * time.Second })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != "57P03" || e.Message != "the database system is starting up" {
		t.Errorf("got %+v", e)
	}
}

// A connection that breaks during login is retried: the server may restart.
func TestServerDisconnectsOnce(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	ca, s := trustedServer(t, func(p *peer) {
		if logins.Add(1) == 1 {
			p.startup()
			p.requestToken()
			p.send(authOK, &pgproto3.ParameterStatus{Name: "from", Value: "the first"}, key)
			return
		}
		p.startup()
		p.requestToken()
		p.send(authOK, ready)
		p.echo()
	})
	_, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(append(pgwire.Encode(authOK), pgwire.Encode(ready)...)) // nothing of the first attempt
}

// A client that disconnects while its login is queued causes no login. Data that a client sends
// early is not lost.
func TestClientInQueue(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	ca, s := trustedServer(t, func(p *peer) {
		logins.Add(1)
		p.acceptLogin()
		p.echo()
	})
	proxy, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectRate = 2 })
	for range 10 { // few enough for the queue
		client := dial(t, address)
		client.send(ordinaryStartup)
		client.Close()
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
	eventually(t, "the end of the others", func() bool { return proxy.Counts().Sessions == 1 })
	if n := logins.Load(); n > 4 {
		t.Errorf("%d logins, although one client stayed", n)
	}
}

// A login that is queued because the server refuses the user's other logins fails with the
// refusal, not with a full queue.
func TestQueueFullOfRefusedLogins(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.requestToken()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
	})
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectRate, p.ConnectTimeout = 150, 5*time.Second })
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

func TestQueueFull(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.acceptLogin(); p.echo() })
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectRate, p.ConnectTimeout = 1, 3*time.Second })
	openSession(t, address)
	failed := make(chan pgproto3.ErrorResponse, 20)
	for range 20 {
		client := dial(t, address)
		client.send(ordinaryStartup)
		go func() {
			m, err := pgwire.ReadMessage(client)
			var e pgproto3.ErrorResponse
			if err == nil && m.Type() == pgwire.ErrorResponse && e.Decode(m.Body()) == nil {
				failed <- e
			}
		}()
	}
	if e := <-failed; e.Code != pgwire.CannotConnectNow || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.QueueFull)
}

// An RDS Proxy that throttles logins is retried with the same token, whatever the SQLSTATE.
func TestThrottledByRDSProxy(t *testing.T) {
	t.Parallel()
	for code, message := range map[string]string{
		"28000": "The IAM authentication failed because of too many competing requests.",
		"28P01": "The IAM authentication failed because of too many competing requests.",
		"53300": "Rate of connection to proxy exceeded 600.",
		"08006": "The IAM authentication failed because of too many competing requests.",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			var logins atomic.Int32
			ca, s := trustedServer(t, func(p *peer) {
				p.startup()
				if token := p.requestToken(); token != "token-alice-0" {
					t.Errorf("received %s", token)
				}
				if logins.Add(1) <= 2 {
					p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
					return
				}
				p.send(authOK, ready)
				p.echo()
			})
			_, address := startProxy(t, ca, s, func(p *Proxy) { p.Upstream.RDSProxy = true })
			client := dial(t, address)
			client.send(ordinaryStartup)
			client.expect(append(pgwire.Encode(authOK), pgwire.Encode(ready)...))
		})
	}
}

// If a refused token is replaced first, the log has the cause as soon as the client waits.
func TestRefusedLoginIsLoggedWhileRetried(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.requestToken()
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed for user \"alice\""})
	})
	var logs *observer.ObservedLogs
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.Fleet, logs = true, observeLogs(p) })
	client := dial(t, address)
	client.send(ordinaryStartup)
	retried := func() *observer.ObservedLogs { return logs.FilterMessage("login failed, retrying") }
	eventually(t, "third attempt", func() bool { return retried().Len() >= 3 })
	if n := retried().FilterLevelExact(zap.InfoLevel).Len(); n != 1 {
		t.Errorf("%d of %v at level info", n, retried().All())
	}
}
