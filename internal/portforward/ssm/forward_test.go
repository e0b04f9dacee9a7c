package ssm_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestEcho(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	w.echo(conn, 1<<20)
	status := w.Status()
	if status.State != ssm.Open || status.Target != node || status.Agent != fakessm.DefaultVersion || status.SessionID != "jane-b" ||
		status.Streams != 1 || status.Sessions != 1 || status.BytesIn < 1<<20 || status.BytesOut < 1<<20 || status.RoundTrip == 0 || status.Err != nil || status.Opened.IsZero() {
		t.Errorf("got %+v", status)
	}
	if conn.RemoteAddr().String() != database+":5432" || conn.LocalAddr().String() != node {
		t.Errorf("got %v, %v", conn.RemoteAddr(), conn.LocalAddr())
	}
	conn.Close()
	w.until("close", func() bool { return w.gateway.Counts().OpenStreams == 0 && w.Status().Streams == 0 })
	in := w.api.started[0]
	if in.Document != "AWS-StartPortForwardingSessionToRemoteHost" || in.Parameters["host"][0] != database || in.Parameters["portNumber"][0] != "5432" {
		t.Errorf("got %+v", in)
	}
}

// The session is opened before there is a client, and ended by a flag and by the API.
func TestStartAndStop(t *testing.T) {
	w := start(t, nil)
	w.until("open", func() bool { return w.Status().State == ssm.Open })
	conn := w.dial()
	w.Stop()
	if counts := w.gateway.Counts(); counts.Started != 1 || counts.Terminated != 1 {
		t.Errorf("got %+v", counts)
	}
	if _, err := conn.Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Read: %v", err)
	}
	if _, err := conn.Write([]byte("x")); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Write: %v", err)
	}
	if _, err := w.Dial(t.Context(), "tcp", ""); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Dial: %v", err)
	}
	if status := w.Status(); status.State != ssm.Closed || status.Err != nil {
		t.Errorf("got %+v", status)
	}
}

func TestLoopbackDocument(t *testing.T) {
	w := start(t, func(w *world) {
		w.Host = "localhost"
		w.gateway.Agent.Routes["localhost"] = w.gateway.Agent.Routes[database]
	})
	w.echo(w.dial(), 1000)
	if in := w.api.started[0]; in.Document != "AWS-StartPortForwardingSession" || in.Parameters["host"] != nil {
		t.Errorf("got %+v", in)
	}
}

// Connections survive lost WebSockets.
func TestCut(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	w.echo(w.dial(), 10)
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-done:
				return
			}
			if i%2 == 0 {
				w.gateway.Cut()
			} else {
				w.gateway.Bye()
			}
		}
	})
	for w.gateway.Counts().Resumed < 4 && !t.Failed() {
		c := w.dial()
		w.echo(c, 20<<10)
		c.Close()
	}
	close(done)
	cutting.Wait()
	w.echo(conn, 1000)
	w.until("resumed", func() bool { return w.Status().Resumes >= 4 && w.Status().State == ssm.Open })
}

// The error of a session that was not opened is kept for a second, suspensions included.
func TestFailureKept(t *testing.T) {
	w := start(t, func(w *world) { w.api.startErr = errors.New("no answer") })
	requests := func() int {
		if conn, err := w.Dial(t.Context(), "tcp", ""); err == nil {
			conn.Close()
			t.Error("no error")
		}
		w.api.mu.Lock()
		defer w.api.mu.Unlock()
		return len(w.api.started)
	}
	before := requests()
	w.Suspend(time.Minute)
	if got := requests(); got != before+1 {
		t.Errorf("%d requests after a suspension, %d before it", got, before)
	}
}

// A session that the service has ended is opened again by the next client, not before.
func TestReopened(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"channel_closed": func(w *world) { w.gateway.EndSessions("idle") },
		"resume refused": func(w *world) {
			w.gateway.SetFaults(fakessm.Faults{RefuseResume: true})
			w.gateway.Bye()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			conn := w.dial()
			w.echo(conn, 10)
			end(w)
			if _, err := conn.Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.SSMSessionEnded {
				t.Errorf("got %v", err)
			}
			w.until("closed", func() bool { return w.Status().State == ssm.Closed })
			if status := w.Status(); status.Sessions != 1 || status.BytesIn == 0 || w.gateway.Counts().Started != 1 {
				t.Errorf("got %+v", status)
			}
			w.gateway.EndSessions("")
			w.gateway.SetFaults(fakessm.Faults{})
			w.echo(w.dial(), 10)
			if status := w.Status(); status.Sessions != 2 || status.State != ssm.Open {
				t.Errorf("got %+v", status)
			}
		})
	}
}

func TestNotOpened(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *world)
		want   pgwire.Reason
	}{
		"API":             {func(w *world) { w.api.startErr = errors.New("no answer") }, pgwire.SSMUnreachable},
		"old agent":       {func(w *world) { w.gateway.Agent.Version = "3.0.196.0" }, pgwire.SSMAgentUnsupported},
		"KMS":             {func(w *world) { w.gateway.Agent.KMSKey = "key" }, pgwire.SSMAgentUnsupported},
		"upgrade refused": {func(w *world) { w.gateway.SetFaults(fakessm.Faults{RefuseUpgrade: 403}) }, pgwire.SSMUnreachable},
		"no TLS":          {func(w *world) { w.AllowHTTP = false }, pgwire.SSMUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.change)
			_, err := w.Dial(t.Context(), "tcp", "")
			if pgwire.ReasonOf(err) != test.want {
				t.Fatalf("got %v", err)
			}
			if status, again := w.Open(t.Context()); again == nil || status.State != ssm.Closed || status.Err == nil {
				t.Errorf("got %+v, %v", status, again)
			}
			w.api.mu.Lock()
			defer w.api.mu.Unlock()
			if len(w.api.started) != 1 {
				t.Errorf("%d requests", len(w.api.started))
			}
		})
	}
}

// Agents before 3.1.1511 need a keep-alive.
func TestOlderAgent(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.Agent.Version = "3.1.1511.0" })
	w.echo(w.dial(), 10000)
}

func TestDialCanceled(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.SetFaults(fakessm.Faults{Down: fakessm.Loss{Lose: 1}}) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Dial(ctx, "tcp", ""); pgwire.ReasonOf(err) != pgwire.SSMUnreachable {
		t.Errorf("got %v", err)
	}
}
