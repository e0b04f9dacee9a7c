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

// instance is a server that reports what it is, and answers if it is asked.
type instance struct {
	reports []*pgproto3.ParameterStatus
	answer  string // empty: it must not be asked
}

func reporting(standby, readOnly string) []*pgproto3.ParameterStatus {
	return []*pgproto3.ParameterStatus{{Name: upstream.InHotStandby, Value: standby}, {Name: upstream.ReadOnlyDefault, Value: readOnly}}
}

func (i instance) serve(p *peer) {
	p.startup()
	p.ask()
	p.send(okay)
	for _, report := range i.reports {
		p.send(report)
	}
	p.send(key, ready)
	if i.answer != "" {
		if m := p.message(); m == nil || m[0] != 'Q' || !strings.Contains(string(m), "pg_is_in_recovery") {
			p.t.Errorf("got %q, want to be asked", m)
		}
		p.send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x")}}},
			&pgproto3.NoticeResponse{Message: "by the way"},
			&pgproto3.DataRow{Values: [][]byte{[]byte(i.answer)}},
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready)
	}
	p.echo()
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		instance
		startup []byte
		takes   bool
	}{
		"writer":                         {instance{reporting("off", "off"), ""}, ordinaryStartup, true},
		"standby":                        {instance{reporting("on", "off"), ""}, ordinaryStartup, false},
		"read-only by its configuration": {instance{reporting("off", "on"), "t"}, ordinaryStartup, false},
		"read-only by wish":              {instance{reporting("off", "on"), "f"}, ordinaryStartup, true},
		"old writer":                     {instance{nil, "f"}, ordinaryStartup, true},
		"old standby":                    {instance{nil, "t"}, ordinaryStartup, false},
		"logical replication":            {instance{nil, "t"}, startupPacket(3<<16, "user", "alice", "replication", "database"), false},
		"physical replication":           {instance{nil, ""}, startupPacket(3<<16, "user", "alice", "replication", "true"), true},
		"physical replication, standby":  {instance{reporting("on", "off"), ""}, startupPacket(3<<16, "user", "alice", "replication", "1"), false},
		"nonsense":                       {instance{nil, "maybe"}, ordinaryStartup, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, s := good(t, test.serve)
			_, address := start(t, ca, s, func(p *Proxy) { p.Writer, p.ConnectTimeout = true, time.Second })
			client := dial(t, address)
			client.send(test.startup)
			if !test.takes {
				e := client.fatal()
				if name == "nonsense" && e.Code == "08P01" {
					return
				}
				if e.Code != "25006" || !strings.Contains(e.Message, "no instance that takes writes") || e.Hint == "" {
					t.Errorf("got %+v", e)
				}
				return
			}
			want := pgwire.Encode(okay)
			for _, report := range test.reports {
				want = append(want, pgwire.Encode(report)...)
			}
			want = append(want, pgwire.Encode(key)...)
			if test.answer != "" {
				want = append(want, pgwire.Encode(&pgproto3.NoticeResponse{Message: "by the way"})...)
			}
			client.expect(append(want, pgwire.Encode(ready)...))
			client.send([]byte("hello"))
			client.expect([]byte("hello"))
		})
	}
}

// A server that does not want to be asked is not the client's affair.
func TestCannotTellTheTarget(t *testing.T) {
	t.Parallel()
	ca, s := good(t, func(p *peer) {
		p.startup()
		p.ask()
		p.send(okay, key, ready)
		p.message()
		p.send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "permission denied for view pg_settings"}, ready)
		p.message()
	})
	_, address := start(t, ca, s, func(p *Proxy) { p.Writer = true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	if e := client.fatal(); e.Severity != "FATAL" || e.Code != "08006" || !strings.Contains(e.Message, "cannot tell") || !strings.Contains(e.Message, "permission denied") || e.Hint == "" {
		t.Errorf("got %+v", e)
	}
}

// The key of an instance that was left is nobody's.
func TestTargetFound(t *testing.T) {
	t.Parallel()
	var logins atomic.Int32
	ca, s := good(t, func(p *peer) {
		i := instance{reports: reporting("on", "on")}
		if logins.Add(1) == 3 {
			i.reports = reporting("off", "off")
		}
		i.serve(p)
	})
	p, address := start(t, ca, s, func(p *Proxy) { p.Writer = true })
	client := dial(t, address)
	client.send(ordinaryStartup)
	client.expect(slices.Concat(pgwire.Encode(okay), pgwire.Encode(&pgproto3.ParameterStatus{Name: upstream.InHotStandby, Value: "off"})))
	if n := logins.Load(); n != 3 {
		t.Errorf("%d logins", n)
	}
	if n := p.cancels.Len(); n != 1 {
		t.Errorf("%d sessions can be cancelled", n)
	}
}
