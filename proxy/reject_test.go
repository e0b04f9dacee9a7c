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

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(*peer) {})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	for via, want := range map[string]string{
		closed:                 "cannot reach " + serverName + ":5432 (via " + closed + ")",
		"does.not.exist.:5432": "cannot resolve",
	} {
		_, address := start(t, ca, s, func(p *Proxy) { p.Upstream.Via, p.ConnectTimeout = via, 2*time.Second })
		client := dial(t, address)
		client.send(ordinaryStartup)
		if e := client.fatal(); e.Code != pgwire.CannotConnect || !strings.Contains(e.Message, want) || e.Hint == "" {
			t.Errorf("via %s: %+v", via, e)
		}
	}
}

// A source of tokens that does not answer is a matter of time, not of rights.
func TestTokenTooLate(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) { p.startup() })
	_, address := start(t, ca, s, func(p *Proxy) {
		p.Tokens = &tokens{err: adviceError{fmt.Errorf("waiting: %w", context.DeadlineExceeded)}}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != "08006" || !strings.Contains(e.Message, "no token for alice") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
}

type adviceError struct{ error }

func (e adviceError) Unwrap() error { return e.error }

func (adviceError) Advice() string { return "run\naws sso login" }

func TestNoToken(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {
		if p.startup() != nil {
			t.Error("the server got a startup packet without a token at hand")
		}
	})
	_, address := start(t, ca, s, func(p *Proxy) {
		p.Tokens = &tokens{err: adviceError{errors.New("the SSO\r\nsession has expired")}}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	e := client.fatal()
	if e.Code != "28000" || e.Message != "iamproxy: no token for alice: the SSO session has expired" || e.Hint != "run aws sso login" {
		t.Errorf("got %+v", e)
	}
}

// A refused token is replaced once; the client hears of the second refusal
// only, in the server's own words and with a hint.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	refusal := &pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed", File: "auth.c", Line: 7,
		UnknownFields: map[byte]string{'z': "later"}}
	asked := make(chan string, 10)
	taken := "token-alice-1"
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.send(&pgproto3.NoticeResponse{Message: "for each attempt"})
		token := p.ask()
		asked <- token
		if token != taken {
			p.send(refusal)
			return
		}
		p.send(okay, ready)
	})
	k := &tokens{}
	_, address := start(t, ca, s, func(p *Proxy) { p.Tokens = k })

	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(&pgproto3.NoticeResponse{Message: "for each attempt"}), pgwire.Encode(okay), pgwire.Encode(ready)))
	if first, second := <-asked, <-asked; first != "token-alice-0" || second != taken {
		t.Errorf("the server got %q and %q", first, second)
	}

	k.Invalidate("alice", taken)
	client = dial(t, address)
	client.send(ordinaryStartup)
	client.expect(pgwire.Encode(&pgproto3.NoticeResponse{Message: "for each attempt"}))
	e := client.fatal()
	if want := "refused hint for alice"; e.Hint != want {
		t.Errorf("hint %q, want %q", e.Hint, want)
	}
	e.Hint = ""
	if !bytes.Equal(pgwire.Encode(&e), pgwire.Encode(refusal)) {
		t.Errorf("the server's error came down as %+v", e)
	}
	if first, second := <-asked, <-asked; first == second {
		t.Error("the refused token was used again")
	}
	if len(asked) != 0 {
		t.Error("more than two attempts")
	}
}

// Where there is no other token the server is not asked twice for nothing. If there
// is no way to try one, the refusal is still what the client hears.
func TestRefusedTokenWithoutAnother(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Proxy){
		"same token": func(p *Proxy) { p.Tokens = &tokens{same: true} },
		"server gone": func(p *Proxy) {
			var dials atomic.Int32
			p.ConnectTimeout = 2 * time.Second
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
			ca, s := good(t, func(p *peer) {
				logins <- true
				p.startup()
				p.ask()
				p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
			})
			_, address := start(t, ca, s, change)
			client := dial(t, address)
			client.send(ordinaryStartup)
			if e := client.fatal(); e.Code != "28000" || e.Message != "PAM authentication failed" || e.Hint != "refused hint for alice" {
				t.Errorf("got %+v", e)
			}
			if len(logins) != 1 {
				t.Errorf("%d logins", len(logins))
			}
		})
	}
}

// Refusals that are not about the token come down as they are, at once.
func TestOtherRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		script func(*peer, *pgproto3.ErrorResponse)
		before []byte
	}{
		{"before the token", func(p *peer, e *pgproto3.ErrorResponse) { p.startup(); p.send(e) }, nil},
		{"after the token", func(p *peer, e *pgproto3.ErrorResponse) { p.startup(); p.ask(); p.send(okay, e) }, pgwire.Encode(okay)},
	} {
		for _, code := range []string{"53300", "3D000", "0A000", "28000"} {
			t.Run(test.name+" "+code, func(t *testing.T) {
				t.Parallel()
				said := &pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "no", Hint: "a hint of its own"}
				logins := make(chan bool, 10)
				ca, s := good(t, func(p *peer) { logins <- true; test.script(p, said) })
				_, address := start(t, ca, s, nil)
				client := dial(t, address)
				client.send(ordinaryStartup)
				client.expect(slices.Concat(test.before, pgwire.Encode(said)))
				client.expectEnd()
				if len(logins) != 1 {
					t.Errorf("%d attempts", len(logins))
				}
			})
		}
	}
}

// After a refusal, the server's later words are what the client hears; what else
// ends an attempt is not.
func TestSecondAttemptFailsOtherwise(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		second func(*peer)
		code   string
	}{
		"another refusal": {func(p *peer) { p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "too many"}) }, "53300"},
		"no answer":       {func(p *peer) { p.message() }, "28000"},
		"nonsense":        {func(p *peer) { p.send([]byte("nonsense")) }, "28000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logins atomic.Int32
			ca, s := good(t, func(p *peer) {
				p.startup()
				p.ask()
				if logins.Add(1) > 1 {
					test.second(p)
					return
				}
				p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
			})
			_, address := start(t, ca, s, func(p *Proxy) { p.ConnectTimeout = 2 * time.Second })
			client := dial(t, address)
			client.send(ordinaryStartup)
			if e := client.fatal(); e.Code != test.code {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestShutdownDuringSecondAttempt(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	stuck := make(chan struct{})
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.ask()
		if logins.Add(1) > 1 {
			close(stuck)
			p.message()
			return
		}
		p.send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "PAM authentication failed"})
	})
	p, address := start(t, ca, s, nil)
	client := dial(t, address)
	client.send(ordinaryStartup)
	<-stuck
	stopNow(p)
	if e := client.fatal(); e.Code != "57P03" {
		t.Errorf("got %+v", e)
	}
}

func TestNoDescriptorLeft(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {})
	_, address := start(t, ca, s, func(p *Proxy) {
		p.ConnectTimeout = 500 * time.Millisecond
		p.Upstream.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}
	})
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Code != "08001" || !strings.Contains(e.Message, "no file descriptor is left") || !strings.Contains(e.Hint, "--max-sessions") {
		t.Errorf("the client is told %+v", e)
	}
}
