package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/conntest"
)

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(*peer) {})
	closed := conntest.ClosedAddress(t)
	for via, reason := range map[string]pgwire.Reason{closed: pgwire.DialRefused, "does.not.exist.:5432": pgwire.ResolveFailed} {
		p, address := startProxy(t, ca, s, func(p *Proxy) { p.Upstream.Via, p.ConnectTimeout = via, 2*time.Second })
		client := dial(t, address)
		client.send(ordinaryStartup)
		host, _, _ := strings.Cut(via, ":")
		if e := client.expectError(); e.Code != pgwire.CannotConnectNow || !strings.Contains(e.Message, host) || !strings.Contains(e.Hint, "--via") {
			t.Errorf("via %s: %+v", via, e)
		}
		p.expectReason(t, reason)
	}
}

// A timeout of the token source may pass: it is no missing permission.
func TestTokenTimeout(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) { p.startup() })
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		p.Tokens = &tokens{err: adviceError{fmt.Errorf("waiting: %w", context.DeadlineExceeded)}}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.TokenTimeout)
}

type adviceError struct{ error }

func (e adviceError) Unwrap() error { return e.error }

func (adviceError) Advice() string { return "run\naws sso login" }

// The error and the advice of the token source are sent to the client, each on one line.
func TestNoToken(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		if p.startup() != nil {
			t.Error("the server received a startup packet before there was a token")
		}
	})
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		p.Tokens = &tokens{err: adviceError{errors.New("the SSO\r\nsession has expired")}}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	e := client.expectError()
	if e.Code != pgwire.InvalidAuthorization || !strings.HasSuffix(e.Message, ": the SSO session has expired") || e.Hint != "run aws sso login" {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.NoToken)
}

// A refused token is replaced once. The client receives the second refusal only, unchanged
// but for the hint.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	refusal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed", File: "auth.c", Line: 7,
		UnknownFields: map[byte]string{'z': "later"}}
	received := make(chan string, 10)
	accepted := "token-alice-1"
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.NoticeResponse{Message: "for each attempt"})
		token := p.requestToken()
		received <- token
		if token != accepted {
			p.send(refusal)
			return
		}
		p.send(authOK, ready)
	})
	k := &tokens{}
	_, address := startProxy(t, ca, s, func(p *Proxy) { p.Tokens = k })

	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.NoticeResponse{Message: "for each attempt"}), pgwire.Encode(authOK), pgwire.Encode(ready)))
	if first, second := <-received, <-received; first != "token-alice-0" || second != accepted {
		t.Errorf("the server received %q and %q", first, second)
	}

	k.Invalidate("alice", accepted)
	client = dial(t, address)
	client.send(ordinaryStartup)
	client.expect(pgwire.Encode(&pgproto3.NoticeResponse{Message: "for each attempt"}))
	e := client.expectError()
	if want := "refused hint for alice"; e.Hint != want {
		t.Errorf("hint %q, want %q", e.Hint, want)
	}
	e.Hint = ""
	if !bytes.Equal(pgwire.Encode(&e), pgwire.Encode(refusal)) {
		t.Errorf("the client received %+v", e)
	}
	if first, second := <-received, <-received; first == second {
		t.Error("the refused token was used again")
	}
	if len(received) != 0 {
		t.Error("more than two attempts")
	}
}

// Without another token there is no second attempt. If the second attempt cannot be made,
// the client receives the refusal.
func TestRefusedTokenNotReplaced(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Proxy){
		"same token": func(p *Proxy) { p.Tokens = &tokens{same: true} },
		"server gone": func(p *Proxy) {
			var dials atomic.Int32
			p.ConnectTimeout = 3 * time.Second
			p.Upstream.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if dials.Add(1) > 1 {
					return nil, errors.New("gone")
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logins := make(chan bool, 10)
			ca, s := trustedServer(t, func(p *peer) {
				logins <- true
				p.startup()
				p.requestToken()
				p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
			})
			_, address := startProxy(t, ca, s, change)
			client := dial(t, address)
			client.send(ordinaryStartup)
			if e := client.expectError(); e.Code != "28000" || e.Message != "PAM authentication failed" || e.Hint != "refused hint for alice" {
				t.Errorf("got %+v", e)
			}
			if len(logins) != 1 {
				t.Errorf("%d logins", len(logins))
			}
		})
	}
}

// Errors that are not about the token are forwarded unchanged, without a second attempt.
func TestOtherServerErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		script func(*peer, *pgproto3.ErrorResponse)
		before []byte
	}{
		{"before the token", func(p *peer, e *pgproto3.ErrorResponse) { p.startup(); p.send(e) }, nil},
		{"after the token", func(p *peer, e *pgproto3.ErrorResponse) { p.startup(); p.requestToken(); p.send(authOK, e) }, pgwire.Encode(authOK)},
	} {
		for _, code := range []string{"53300", "3D000", "0A000", "28000"} {
			t.Run(test.name+" "+code, func(t *testing.T) {
				t.Parallel()
				sent := &pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "no", Hint: "the server's hint"}
				logins := make(chan bool, 10)
				ca, s := trustedServer(t, func(p *peer) { logins <- true; test.script(p, sent) })
				_, address := startProxy(t, ca, s, nil)
				client := dial(t, address)
				client.send(ordinaryStartup)
				client.expect(slices.Concat(test.before, pgwire.Encode(sent)))
				client.expectEnd()
				if len(logins) != 1 {
					t.Errorf("%d attempts", len(logins))
				}
			})
		}
	}
}

// After a refusal, the client receives a later error of the server, but no other one.
func TestSecondAttemptError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		second func(*peer)
		code   string
	}{
		"another refusal": {func(p *peer) { p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "too many"}) }, "53300"},
		"no answer":       {func(p *peer) { p.message() }, "28000"},
		"invalid message": {func(p *peer) { p.send([]byte("nonsense")) }, "28000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logins atomic.Int32
			ca, s := trustedServer(t, func(p *peer) {
				p.startup()
				p.requestToken()
				if logins.Add(1) > 1 {
					test.second(p)
					return
				}
				p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
			})
			_, address := startProxy(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 3 * time.Second })
			client := dial(t, address)
			client.send(ordinaryStartup)
			if e := client.expectError(); e.Code != test.code {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestShutdownDuringSecondAttempt(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	stuck := make(chan struct{})
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.requestToken()
		if logins.Add(1) > 1 {
			close(stuck)
			p.message()
			return
		}
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
	})
	p, address := startProxy(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-stuck
	stopNow(p)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow {
		t.Errorf("got %+v", e)
	}
}

func TestFileDescriptorsUsedUp(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {})
	p, address := startProxy(t, ca, s, func(p *Proxy) {
		p.ConnectTimeout = 2 * time.Second
		p.Upstream.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Code != pgwire.CannotConnectNow || !strings.Contains(e.Hint, "--max-sessions") {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.FileDescriptorsUsedUp)
}

// The hint of a failed login ends with the command that diagnoses it. Other failures have none: the
// client's own, and those of limits.
func TestCheckCommandInHints(t *testing.T) {
	t.Parallel()
	command := func(user, database string) string {
		return "iamproxy check HOST --user " + text.ShellQuote(user) + " --database " + database
	}
	refuse := func(code string) func(*peer) {
		return func(p *peer) {
			p.startup()
			p.requestToken()
			p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "no"})
		}
	}
	for name, test := range map[string]struct {
		script  func(*peer)
		startup []byte
		change  func(*Proxy)
		want    string // end of the hint
	}{
		"token refused":      {refuse("28000"), ordinaryStartup, nil, "refused hint for alice; Run: iamproxy check HOST --user alice --database mydb"},
		"no such database":   {refuse("3D000"), ordinaryStartup, nil, ""},
		"no token":           {refuse("28000"), ordinaryStartup, func(p *Proxy) { p.Tokens = &tokens{err: errors.New("none")} }, "Run: iamproxy check HOST --user alice --database mydb"},
		"control characters": {refuse("28000"), startupPacket(3<<16, "user", "a\nb' ; rm", "database", "d"), nil, "refused hint for a b' ; rm"},
		"two spaces":         {refuse("28000"), startupPacket(3<<16, "user", "a  b", "database", "d"), nil, "refused hint for a b"},
		"too many clients":   {refuse("28000"), ordinaryStartup, func(p *Proxy) { p.Limit = &ConnLimit{Max: 1, Hint: "Wait."}; p.Limit.acquire() }, "Wait."},
		"no user":            {refuse("28000"), startupPacket(3<<16, "database", "d"), nil, "--user."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, s := trustedServer(t, test.script)
			p, address := startProxy(t, ca, s, func(p *Proxy) {
				p.CheckCommand = command
				p.Tokens = &tokens{same: true}
				if test.change != nil {
					test.change(p)
				}
			})
			client := dial(t, address)
			client.send(test.startup)
			e := client.expectError()
			if !strings.HasSuffix(e.Hint, test.want) || (test.want == "") != (e.Hint == "") {
				t.Errorf("hint %q, want %q", e.Hint, test.want)
			}
			f := p.Failures()[0]
			if _, line, _ := strings.Cut(e.Hint, "Run: "); f.Check != line || strings.Contains(f.Hint, "Run: ") {
				t.Errorf("failure %+v, want the command %q", f, line)
			}
		})
	}
}

// A message shows the cause; the errors around it are logged at debug level.
func TestChainLoggedAtDebugLevel(t *testing.T) {
	t.Parallel()
	var logs *observer.ObservedLogs
	ca, s := trustedServer(t, func(*peer) {})
	_, address := startProxy(t, ca, s, func(p *Proxy) {
		logs = observeLogs(p)
		p.Upstream.Via, p.ConnectTimeout = "does.not.exist.:5432", 2*time.Second
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); strings.Contains(e.Message, "lookup") {
		t.Errorf("message %q", e.Message)
	}
	chain := logs.FilterMessage("connection rejected because of an error").FilterLevelExact(zap.DebugLevel).All()
	if len(chain) != 1 || !strings.Contains(fmt.Sprint(chain[0].ContextMap()["cause"]), "lookup does.not.exist.") {
		t.Errorf("logged %v", chain)
	}
}
