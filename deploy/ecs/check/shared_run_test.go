//go:build linux

package check

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// TestSharedRuns runs the tasks of the service behind a load balancer, with clients on other hosts.
func TestSharedRuns(t *testing.T) {
	f := newFleet(t)
	tasks := []task{f.start(), f.start()}
	for _, task := range tasks {
		f.await(task.address, true)
	}
	app, stranger := f.client(aurora.IAMUser), f.client("stranger")
	if out, err := app.query("select session_user"); err != nil || out != aurora.IAMUser {
		t.Errorf("%v %s", err, out)
	}
	if out, err := stranger.query("select 1"); err == nil || !strings.Contains(out, "iamproxy") {
		t.Errorf("a certificate for another user: %v %s", err, out)
	}
	without := clientHost{app.network, app.address, append(slices.Clone(app.env), "PGSSLCERT=/nonexistent")}
	if out, err := without.query("select 1"); err == nil {
		t.Errorf("no certificate: %s", out)
	}

	// A cancel request reaches the task that has the session.
	interrupt, wait := f.startQuery(app)
	interrupt()
	if out := wait(); !strings.Contains(out, "canceling statement due to user request") {
		t.Errorf("not cancelled: %s", out)
	}

	// The task logs the address of the client, and sends keep-alives to it.
	idle := app.open(t)
	idle.query("select 1;")
	at := slices.IndexFunc(tasks, func(task task) bool { return strings.Contains(task.Log(), `"client":"`+app.address+":") })
	if at < 0 {
		t.Fatalf("no task has a client %s", app.address)
	}
	until(t, "keep-alives", func() bool {
		out, err := container.Run(tasks[at].network.Command(os.Environ(), "ss", "-tnoH", "state", "established", "dst", app.address))
		return err == nil && strings.Contains(out, "timer:(keepalive")
	})
	idle.close()
}

// Without stickiness, the balancer sends the cancel request to the other task, which has no such
// session. A task without credentials gets no client.
func TestSharedUnsticky(t *testing.T) {
	f := newFleet(t, `stickiness.enabled, Value: "true"`, `stickiness.enabled, Value: "false"`)
	broken := f.start("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
	tasks := []task{f.start(), f.start()}
	for _, task := range tasks {
		f.await(task.address, true)
	}
	interrupt, _ := f.startQuery(f.client(aurora.IAMUser))
	interrupt()
	until(t, "rejected cancel request", func() bool {
		return slices.ContainsFunc(tasks, func(task task) bool {
			return rejectedCancels.MatchString(f.get(task.address, "/metrics"))
		})
	})
	if n := f.accepted(broken.address); n != 0 {
		t.Errorf("a task without credentials got %d connections", n)
	}
	if status := f.get(broken.address, f.group.HealthCheckPath); !strings.Contains(status, "credentials") {
		t.Errorf("health of the task without credentials: %s", status)
	}
}

// rejectedCancels matches the metric of a cancel request without a session.
var rejectedCancels = regexp.MustCompile(`(?m)^iamproxy_cancel_requests_total{.*result="rejected".*} [1-9]`)

// TestSharedRollOut replaces the tasks as ECS does, one at a time. Clients that connect all the
// time are not refused, and no session is cut.
func TestSharedRollOut(t *testing.T) {
	f := newFleet(t)
	old := []task{f.start(), f.start()}
	for _, task := range old {
		f.await(task.address, true)
	}
	stop := make(chan struct{})
	var connecting sync.WaitGroup
	counts := make([]atomic.Int64, 2)
	var clients []clientHost
	for i := range counts {
		clients = append(clients, f.client(aurora.IAMUser))
		connecting.Go(func() {
			for {
				if out, err := clients[i].query("select 1"); err != nil {
					t.Errorf("client %d was refused after %d sessions: %v %s", i, counts[i].Load(), err, out)
					return
				}
				counts[i].Add(1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	sessions := []*session{clients[0].open(t), clients[1].open(t)}
	for i, s := range sessions {
		s.query(fmt.Sprintf("begin; create table session%d(x int); select 'begun';", i))
	}
	for i, task := range old {
		next := f.start()
		f.await(next.address, true)
		f.deregister(task.address)
		for n := range counts { // a login at the old task may still run
			before := counts[n].Load()
			until(t, "new session", func() bool { return counts[n].Load() >= before+2 || t.Failed() })
		}
		if f.accepted(next.address) == 0 {
			t.Error("no client at the new task")
		}
		// After the deregistration delay, the task gets SIGTERM.
		if err := syscall.Kill(task.PID(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		f.await(task.address, false)
		for n, s := range sessions {
			if got := s.query("select 'still';"); got != "still" {
				t.Errorf("session %d during the end of task %d: %s", n, i, got)
			}
		}
	}
	for _, s := range sessions {
		if got := s.query("commit; select 'done';"); got != "done" {
			t.Errorf("commit: %s", got)
		}
		s.close()
	}
	close(stop)
	connecting.Wait()
	for i, task := range old {
		task.Stop()
		if !strings.Contains(task.Log(), `"sessions_cut":0`) {
			t.Errorf("task %d: %s", i, task.Log())
		}
	}
	out, err := clients[0].query("select count(*) from pg_tables where tablename in ('session0', 'session1')")
	if err != nil || out != "2" {
		t.Errorf("tables %s, %v", out, err)
	}
	t.Logf("%d and %d sessions of connecting clients", counts[0].Load(), counts[1].Load())
}
