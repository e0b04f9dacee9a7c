package proxy

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// instance is a server that reports settings, and answers the query for writability.
type instance struct {
	reports []*pgproto3.ParameterStatus
	answer  string // if empty, the server must not be queried
}

func reportedSettings(standby, readOnly string) []*pgproto3.ParameterStatus {
	return []*pgproto3.ParameterStatus{{Name: upstream.InHotStandby, Value: standby}, {Name: upstream.ReadOnlyDefault, Value: readOnly}}
}

func (i instance) serve(p *peer) {
	p.startup()
	p.requestToken()
	p.send(authOK)
	for _, report := range i.reports {
		p.send(report)
	}
	p.send(key, ready)
	if i.answer != "" {
		switch m := p.message(); {
		case m == nil: // ConnectTimeout has ended the attempt
			return
		case m[0] != pgwire.Query || !strings.Contains(string(m), "pg_is_in_recovery"):
			p.t.Errorf("got %q, want the query", m)
		}
		p.send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x")}}},
			&pgproto3.NoticeResponse{Message: "notice"},
			&pgproto3.DataRow{Values: [][]byte{[]byte(i.answer)}},
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready)
	}
	p.echo()
}

func TestWritable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		instance
		startup []byte
		reason  pgwire.Reason // empty: the session begins
	}{
		"writer":                         {instance{reportedSettings("off", "off"), ""}, ordinaryStartup, ""},
		"standby":                        {instance{reportedSettings("on", "off"), ""}, ordinaryStartup, pgwire.NotWritable},
		"read-only by its configuration": {instance{reportedSettings("off", "on"), "t"}, ordinaryStartup, pgwire.NotWritable},
		"read-only session":              {instance{reportedSettings("off", "on"), "f"}, ordinaryStartup, ""},
		"old writer":                     {instance{nil, "f"}, ordinaryStartup, ""},
		"old standby":                    {instance{nil, "t"}, ordinaryStartup, pgwire.NotWritable},
		"logical replication":            {instance{nil, "t"}, startupPacket(3<<16, "user", "alice", "replication", "database"), pgwire.NotWritable},
		"physical replication":           {instance{nil, ""}, startupPacket(3<<16, "user", "alice", "replication", "true"), ""},
		"physical replication, standby":  {instance{reportedSettings("on", "off"), ""}, startupPacket(3<<16, "user", "alice", "replication", "1"), pgwire.NotWritable},
		"invalid answer":                 {instance{nil, "maybe"}, ordinaryStartup, pgwire.WritableInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, s := trustedServer(t, test.serve)
			p, address := startProxy(t, ca, s, func(p *Proxy) { p.RequireWritable, p.ConnectTimeout = true, 3*time.Second })
			client := dial(t, address)
			client.send(test.startup)
			if test.reason != "" {
				if e := client.expectError(); test.reason == pgwire.NotWritable && (e.Code != pgwire.CannotConnectNow || e.Hint == "") {
					t.Errorf("got %+v", e)
				}
				p.expectReason(t, test.reason)
				return
			}
			want := pgwire.Encode(authOK)
			for _, report := range test.reports {
				want = append(want, pgwire.Encode(report)...)
			}
			want = append(want, pgwire.Encode(key)...)
			if test.answer != "" {
				want = append(want, pgwire.Encode(&pgproto3.NoticeResponse{Message: "notice"})...)
			}
			client.expect(append(want, pgwire.Encode(ready)...))
			client.send([]byte("hello"))
			client.expect([]byte("hello"))
		})
	}
}

// A server that rejects the query ends the login with the proxy's error.
func TestWritableUnknown(t *testing.T) {
	t.Parallel()
	ca, s := trustedServer(t, func(p *peer) {
		p.startup()
		p.requestToken()
		p.send(authOK, key, ready)
		p.message()
		p.send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "permission denied for view pg_settings"}, ready)
		p.message()
	})
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.RequireWritable = true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.expectError(); e.Severity != "FATAL" || e.Code != pgwire.ConnectionFailure || !strings.Contains(e.Message, "permission denied") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
	p.expectReason(t, pgwire.WritableUnknown)
}

// The login is retried until an instance accepts writes. The cancel keys of the others are not
// registered.
func TestWritableAfterRetry(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	ca, s := trustedServer(t, func(p *peer) {
		i := instance{reports: reportedSettings("on", "on")}
		if logins.Add(1) == 3 {
			i.reports = reportedSettings("off", "off")
		}
		i.serve(p)
	})
	p, address := startProxy(t, ca, s, func(p *Proxy) { p.RequireWritable = true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.ParameterStatus{Name: upstream.InHotStandby, Value: "off"})))
	if n := logins.Load(); n != 3 {
		t.Errorf("%d logins", n)
	}
	if n := p.cancels.Len(); n != 1 {
		t.Errorf("%d sessions can be cancelled", n)
	}
}
