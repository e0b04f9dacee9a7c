//go:build unix

package e2e

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// loginResult is the result of one of many clients.
type loginResult struct {
	code, message string // of the error; empty: logged in
	at            time.Time
}

// loginBurst makes n clients log in at once, for one query each, and returns the results. They
// keep their sessions until the last one has its result, as pools do.
func loginBurst(t *testing.T, p *process, n int) []loginResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	results := make([]loginResult, n)
	conns := make([]*pgx.Conn, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			var err error
			if conns[i], err = p.connect(ctx, aurora.IAMUser, aurora.Database); err == nil {
				_, err = conns[i].Exec(ctx, "select 1")
			}
			results[i] = loginResultOf(err)
		})
	}
	all.Wait()
	for _, conn := range conns {
		if conn != nil {
			all.Go(func() { _ = conn.Close(ctx) })
		}
	}
	all.Wait()
	return results
}

func loginResultOf(err error) loginResult {
	result := loginResult{at: time.Now()}
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		result.code, result.message = refused.Code, refused.Message
	case err != nil:
		result.code, result.message = "no answer", err.Error()
	}
	return result
}

// connect logs in with pgx.
func (p *process) connect(ctx context.Context, user, database string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, p.conninfo(user, database)+" sslmode=disable connect_timeout=60")
	keepError(p.t, err)
	return conn, err
}

// expectAllIn fails for each client that received an error.
func expectAllIn(t *testing.T, results []loginResult) (last time.Time) {
	t.Helper()
	for _, r := range results {
		if r.code != "" {
			t.Errorf("a client was told %s: %s", r.code, r.message)
		}
		if r.at.After(last) {
			last = r.at
		}
	}
	return last
}

// A server that limits logins per second, and rejects the others like wrong tokens, accepts
// all of them over time.
func TestThrottledLogins(t *testing.T) {
	t.Parallel()
	const clients, perSecond = 400, 40
	cluster := startCluster(t, &aurora.Cluster{Settings: map[string]string{"max_connections": "450"}})
	cluster.SetLoginLimit(perSecond)
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-timeout=50s")...)
	began := time.Now()
	last := expectAllIn(t, loginBurst(t, p, clients))

	count := map[aurora.Reason]int{}
	for _, v := range cluster.Verdicts() {
		count[v.Reason]++
	}
	t.Logf("the last of %d clients got in after %v, by verdicts %v", clients, last.Sub(began).Round(100*time.Millisecond), count)
	if count[aurora.OK] != clients || count[aurora.Throttled] == 0 || len(count) != 2 {
		t.Errorf("verdicts %v, want %d good ones and some that were throttled", count, clients)
	}
	// The logins of the first second are rejected before the first answer arrives, and
	// later one at each attempt to go faster.
	if count[aurora.Throttled] > clients {
		t.Errorf("%d logins were wasted", count[aurora.Throttled])
	}
}

// Logins are limited to --connect-rate per second, with a burst of a tenth of it.
func TestConnectRate(t *testing.T) {
	const clients, rate = 60, 20
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-rate=20")...)
	expectAllIn(t, loginBurst(t, p, clients))

	verdicts := cluster.Verdicts()
	if len(verdicts) != clients {
		t.Errorf("%d verdicts for %d clients", len(verdicts), clients)
	}
	// A verdict comes some time after its login has begun. On a busy machine that varies by
	// up to half a second.
	const most = rate + rate/10 + rate/2
	n := mostWithinASecond(verdicts)
	t.Logf("at most %d logins within a second", n)
	if n > most {
		t.Errorf("%d logins within a second, want at most about %d", n, rate+rate/10)
	}
}

func mostWithinASecond(verdicts []aurora.Verdict) (most int) {
	slices.SortFunc(verdicts, func(a, b aurora.Verdict) int { return a.Time.Compare(b.Time) })
	first := 0
	for i, v := range verdicts {
		for v.Time.Sub(verdicts[first].Time) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Clients whose turn would come too late are rejected at once.
func TestQueueTooLong(t *testing.T) {
	t.Parallel()
	const clients = 30
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-rate=1", "--connect-timeout=4s")...)
	results := loginBurst(t, p, clients)
	var lastIn time.Time
	in := 0
	for _, r := range results {
		if r.code == "" {
			in++
			if r.at.After(lastIn) {
				lastIn = r.at
			}
		}
	}
	atOnce := 0
	for _, r := range results {
		if r.code != "" && r.at.Before(lastIn) {
			atOnce++
		}
	}
	until(t, "the rejected clients to be counted", func() bool {
		return p.metrics()[`iamproxy_sessions_total{result="failed"}`] == float64(clients-in)
	})
	metrics := p.metrics()
	queueFull := int(metrics[`iamproxy_login_failures_total{reason="queue_full",sqlstate="57P03"}`])
	noAnswer := int(metrics[`iamproxy_login_failures_total{reason="no_answer",sqlstate="57P03"}`])
	late := queueFull - atOnce
	t.Logf("of %d clients %d got in, %d were rejected at once, %d late, %d got no answer", clients, in, atOnce, late, noAnswer)
	if in+queueFull+noAnswer != clients {
		t.Errorf("%d of %d clients failed for another reason: %v", clients-in-queueFull-noAnswer, clients, results)
	}
	// Logins begin a second apart, so at most one begins with less than a second left. That may
	// be too little for the server's answer.
	if in < 3 || noAnswer > 1 {
		t.Errorf("%d clients got in, %d got no answer, want at least 3, and at most 1", in, noAnswer)
	}
	// A client is rejected late only if another one takes a place before it: one whose login
	// began earlier, but which enters the queue later. That takes a race of the two.
	if atOnce < clients/2 || late > 2 {
		t.Errorf("%d clients were rejected at once, %d late, want at least %d, and at most 2", atOnce, late, clients/2)
	}
}

// Clients that disconnect while they wait do not use up a turn.
func TestClientsLeaveTheQueue(t *testing.T) {
	t.Parallel()
	const impatient = 20
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--connect-rate=1")...)
	startup, err := (&pgproto3.StartupMessage{ProtocolVersion: protocol30,
		Parameters: map[string]string{"user": aurora.IAMUser, "database": aurora.Database}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	idle := p.descriptors()
	var waiting []net.Conn
	for range impatient {
		conn := dial(t, p.listens[0])
		if _, err := conn.Write(startup); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	patient := make(chan error, 1)
	go func() {
		conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
		if err == nil {
			err = conn.Close(t.Context())
		}
		patient <- err
	}()
	until(t, "the first session, and all the others to wait", func() bool {
		return strings.Contains(p.logs(), `"msg":"session opened"`) && p.descriptors() >= idle+impatient+2
	})
	for _, conn := range waiting {
		conn.Close()
	}
	if err := <-patient; err != nil {
		t.Errorf("the one who stayed was told %v", err)
	}
	until(t, "the others to be given up", func() bool {
		return p.metrics()[`iamproxy_sessions_total{result="abandoned"}`] >= impatient-3
	})
	// One logged in before all had come, and perhaps another.
	if n := len(cluster.Verdicts()); n > 4 {
		t.Errorf("%d logins, of which one was wanted", n)
	}
}
