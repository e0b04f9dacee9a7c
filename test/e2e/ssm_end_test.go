//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// awaitDisconnect waits until the proxy has ended the client's connection.
func awaitDisconnect(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	until(t, "the client to be disconnected", func() bool { return conn.Ping(t.Context()) != nil })
}

// A session that has been idle ends, with the sessions of its clients. Only the next client opens
// another one.
func testSSMIdle(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{IdleTimeout: 3 * time.Second})
	p := startProxy(t, s.env, s.proxyArgs()...)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the session to end", func() bool {
		return hasLine(p.logs(), `"msg":"Session Manager session ended"`, "timed out due to inactivity")
	})
	awaitDisconnect(t, conn)
	if counts := s.gateway.Counts(); counts.Started != 1 || counts.Terminated != 0 {
		t.Errorf("%+v", counts)
	}
	if p.metrics()[sessionClosed] != 1 {
		t.Error("the state is not closed in the metrics")
	}
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	if started := s.gateway.Counts().Started; started != 2 {
		t.Errorf("%d sessions", started)
	}
}

// A session that cannot be resumed ends. A client then receives the cause, or has the next
// session.
func testSSMNotResumed(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	p := startProxy(t, s.env, s.proxyArgs("--connect-timeout=3s")...)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	s.gateway.SetFaults(fakessm.Faults{RefuseResume: true})
	s.gateway.Cut()
	awaitDisconnect(t, conn)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")

	s.gateway.SetFaults(fakessm.Faults{})
	s.aws.Attach(ssmCaller, fakeaws.Policy{Deny: true, Actions: []string{"ssm:ResumeSession"}})
	s.gateway.Cut()
	until(t, "the session to end", func() bool {
		return hasLine(p.logs(), `"msg":"Session Manager session failed"`, `"reason":"ssm_`, "ssm:ResumeSession on arn:aws:ssm:eu-west-1:"+account+":session/", " is not allowed")
	})
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")

	throttled := fakeaws.Fault{Only: fakeaws.SSM, Status: http.StatusBadRequest, Body: `{"__type":"ThrottlingException","message":"Rate exceeded"}`}
	const throttles = "Systems Manager's API throttles requests"
	for name, test := range map[string]struct {
		gateway  fakessm.Faults
		aws      fakeaws.Fault
		resuming bool // the session is resumed, instead of opened
		want     ssmFailure
	}{
		"no WebSocket":              {fakessm.Faults{RefuseUpgrade: http.StatusForbidden}, fakeaws.Fault{}, false, ssmFailure{"", pgwire.SSMUnreachable, "answered the request for a WebSocket with status 403", "HTTPS_PROXY"}},
		"throttled":                 {fakessm.Faults{}, throttled, false, ssmFailure{"", pgwire.SSMUnreachable, ": " + throttles, ""}},
		"no answer":                 {fakessm.Faults{}, fakeaws.Fault{Only: fakeaws.SSM, Cut: true}, false, ssmFailure{"", pgwire.SSMUnreachable, "could not reach", "endpoints ssm and ssmmessages"}},
		"throttled when it was cut": {fakessm.Faults{}, throttled, true, ssmFailure{"", pgwire.SSMUnreachable, ": " + throttles, "raise --connect-timeout"}},
	} {
		if !test.resuming {
			s.endSession(p)
		}
		s.gateway.SetFaults(test.gateway)
		s.aws.SetFault(test.aws)
		if test.resuming {
			s.gateway.Cut()
			until(t, "the session to be resumed", func() bool { return p.metrics()[`iamproxy_ssm_session_state{state="resuming"}`] == 1 })
		}
		logged := len(p.logs())
		out, err := p.psql(aurora.IAMUser, aurora.Database, "select 1")
		if err == nil {
			t.Errorf("%s: psql got in", name)
		}
		test.want.wantIn(t, name, out)
		until(t, "the reason of "+name, func() bool { return hasLine(p.logs()[logged:], `"session":`, `"reason":"`+string(test.want.reason)) })
		s.gateway.SetFaults(fakessm.Faults{})
		s.aws.SetFault(fakeaws.Fault{})
		p.awaitSession()
	}
}

// endSession ends the session of the process.
func (s *sessionManager) endSession(p *process) {
	p.t.Helper()
	s.gateway.EndSessions("")
	until(p.t, "the session to end", func() bool { return p.metrics()[sessionClosed] == 1 })
}

// sessionClosed is the sample for a process without a session of Session Manager.
const sessionClosed = `iamproxy_ssm_session_state{state="closed"}`

// awaitSession waits until a client has a session. The error of a session of Session Manager that
// could not be opened is kept for a second.
func (p *process) awaitSession() {
	p.t.Helper()
	until(p.t, "a session", func() bool {
		_, err := p.psql(aurora.IAMUser, aurora.Database, "select 1")
		return err == nil
	})
}

// A process that ends terminates its session, and is not delayed by an API that does not answer.
func testSSMTerminated(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProxy(t, s.env, s.proxyArgs("--drain-max=0s")...)
		if _, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database); err != nil {
			t.Fatal(err)
		}
		p.end(t, s, signal)
	}
	p := startProxy(t, s.env, s.proxyArgs()...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	s.aws.SetFault(fakeaws.Fault{Only: fakeaws.SSM, Delay: limit})
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("ended with %d", code)
	}
	if log := p.logs(); !strings.Contains(log, `"msg":"Session Manager session closed"`) {
		t.Error("the log does not have the end of the session")
	}
	s.awaitEnd(t) // by the flag
}

// end ends the process with a signal, and fails unless it terminates its sessions.
func (p *process) end(t testing.TB, s *sessionManager, signal syscall.Signal) {
	t.Helper()
	before := s.gateway.Counts()
	p.signal(signal)
	if code := p.wait(); code != 0 {
		t.Errorf("after signal %v it ended with %d", signal, code)
	}
	after := s.gateway.Counts()
	if ended := after.Terminated - before.Terminated; ended != before.OpenSessions || after.OpenSessions != 0 {
		t.Errorf("after signal %v, %d of %d sessions are terminated", signal, ended, before.OpenSessions)
	}
}

// Sessions of clients leave no goroutine and no descriptor behind.
func testSSMLeavesNothing(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	p := startProxy(t, s.env, s.proxyArgs("--log-level=info")...)
	atOnce, rounds := 25, longOr(40, 8)
	expectAllIn(t, loginBurst(t, p, atOnce))
	s.awaitStreams(t)
	quiet := func() (now map[string]float64) {
		until(t, "sessions to be gone", func() bool {
			now = p.metrics()
			return now["iamproxy_open_sessions"] == 0 && now["iamproxy_ssm_connections"] == 0
		})
		return now
	}
	before := quiet()
	for range rounds {
		expectAllIn(t, loginBurst(t, p, atOnce))
	}
	s.awaitStreams(t)
	until(t, "goroutines and descriptors to be gone", func() bool {
		now := quiet()
		return now["go_goroutines"] <= before["go_goroutines"]+5 && now["process_open_fds"] <= before["process_open_fds"]+2
	})
	if counts := s.gateway.Counts(); counts.Started != 1 {
		t.Errorf("%+v", counts)
	}
}
