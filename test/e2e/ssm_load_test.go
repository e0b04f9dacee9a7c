//go:build unix

package e2e

import (
	"bytes"
	"context"
	"crypto/md5" // what PostgreSQL has built in
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// Many sessions of clients share one session of Session Manager. What they copy at the same time
// arrives whole.
func testSSMLoad(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{Agent: fakessm.Agent{NoSleep: true}})
	p := startProxy(t, s.env, s.proxyArgs("--log-level=info")...)
	expectAllIn(t, loginBurst(t, p, 50))
	ctx, cancel := context.WithTimeout(t.Context(), 5*limit)
	defer cancel()
	data := newCopied(50_000_000)
	var all sync.WaitGroup
	all.Go(func() { data.down(ctx, t, p) })
	all.Go(func() { data.up(ctx, t, p) })
	all.Wait()
	if counts := s.gateway.Counts(); counts.Started != 1 || counts.Streams < 50 {
		t.Errorf("%+v", counts)
	}
	s.awaitStreams(t)
}

// awaitStreams waits until no client is connected to the database.
func (s *sessionManager) awaitStreams(t testing.TB) {
	t.Helper()
	until(t, "the connections to end", func() bool { return s.gateway.Counts().OpenStreams == 0 })
}

// copied is data that a server and this test make alike, in lines of 33 bytes.
type copied struct {
	lines int
	want  string // checksum
}

func newCopied(bytes int) copied {
	c := copied{lines: bytes / 33}
	h := md5.New()
	_ = c.write(h) // never fails
	c.want = sumOf(h)
	return c
}

func (c copied) query() string {
	return fmt.Sprintf("select md5(i::text) from generate_series(1, %d) i", c.lines)
}

// write writes the lines.
func (c copied) write(w io.Writer) error {
	const atOnce = 1000
	var b bytes.Buffer
	for i := 1; i <= c.lines; i++ {
		sum := md5.Sum(fmt.Append(nil, i))
		b.WriteString(hex.EncodeToString(sum[:]))
		b.WriteByte('\n')
		if i%atOnce == 0 || i == c.lines {
			if _, err := b.WriteTo(w); err != nil {
				return err
			}
		}
	}
	return nil
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// longConnectTimeout is for logins that begin before the agent has repeated what was lost.
const longConnectTimeout = "PGCONNECT_TIMEOUT=180"

// down copies the data from the database with psql.
func (c copied) down(ctx context.Context, t testing.TB, p *process) {
	cmd := client(ctx, "psql", "-X", "-w", p.conninfo(aurora.IAMUser, aurora.Database), "-c", "copy ("+c.query()+") to stdout")
	cmd.Env = append(cmd.Env, longConnectTimeout)
	h, stderr := md5.New(), &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = h, stderr
	err := cmd.Run()
	keep(t, "psql", stderr.String())
	if err != nil {
		t.Errorf("copy from the database: %v: %s", err, stderr)
	}
	if got := sumOf(h); got != c.want {
		t.Errorf("the client got data with checksum %s, want %s", got, c.want)
	}
}

// up copies the data to the database with psql.
func (c copied) up(ctx context.Context, t testing.TB, p *process) {
	cmd := client(ctx, "psql", "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", p.conninfo(aurora.IAMUser, aurora.Database),
		"-c", "create temp table sent (line text)", "-c", "copy sent from stdin", "-c", `select md5(string_agg(line || E'\n', '' order by ctid)) from sent`)
	cmd.Env = append(cmd.Env, longConnectTimeout)
	in, out := io.Pipe()
	go func() { out.CloseWithError(c.write(out)) }()
	defer in.Close()
	cmd.Stdin = in
	printed, err := combinedOutput(t, cmd)
	if err != nil {
		t.Errorf("copy to the database: %v: %s", err, printed)
	}
	if got := strings.TrimSpace(string(printed)); got != c.want {
		t.Errorf("the server got data with checksum %s, want %s", got, c.want)
	}
}

// The socket is cut 20 times, while pgbench runs and data is copied in both directions. No byte
// and no session is lost. The agent repeats what was lost at 10 messages a second, so little data
// comes from it, and it has to repeat most of that before the next cut.
func testSSMCuts(t *testing.T, cluster *aurora.Cluster) {
	const cuts = 20
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	p := startProxy(t, s.env, s.proxyArgs("--log-level=info", "--connect-timeout=3m")...)
	ctx, cancel := context.WithTimeout(t.Context(), 5*limit)
	defer cancel()
	pgbench := func(args ...string) {
		cmd := client(ctx, "pgbench", append(args, "-h", "127.0.0.1", "-p", p.port(), "-U", aurora.IAMUser, aurora.Database)...)
		cmd.Env = append(cmd.Env, longConnectTimeout)
		out, err := combinedOutput(t, cmd)
		if err != nil || strings.Contains(string(out), "aborted") {
			t.Errorf("pgbench %s: %v: %s", args, err, out)
		}
	}
	pgbench("-i", "-q", "-s", "1")
	up, down := newCopied(10_000_000), newCopied(1_000_000)

	var all sync.WaitGroup
	var over atomic.Bool
	repeat := func(work func()) {
		all.Go(func() {
			for !over.Load() && ctx.Err() == nil {
				work()
			}
		})
	}
	defer func() { // also after a failure
		cancel()
		all.Wait()
	}()
	repeat(func() { pgbench("-n", "-c", "8", "-j", "2", "-t", "20") })
	repeat(func() { up.up(ctx, t, p) })
	repeat(func() { down.down(ctx, t, p) })
	for i := range cuts {
		s.awaitData(t, 1_000_000)
		until(t, "the agent to repeat what was lost", func() bool { return s.gateway.Counts().OpenMessages < 50 })
		before := s.gateway.Counts().Resumed
		if i%2 == 0 {
			s.gateway.Cut()
		} else {
			s.gateway.Bye()
		}
		until(t, "the session to be resumed", func() bool { c := s.gateway.Counts(); return c.Resumed > before && c.OpenSockets == 1 })
	}
	over.Store(true)
	all.Wait()
	s.awaitStreams(t)
	counts := s.gateway.Counts()
	if counts.Started != 1 || counts.Resumed < cuts {
		t.Errorf("%+v", counts)
	}
	t.Logf("the longest of %d outages took %v s", counts.Resumed, longestOutage(p.logs()))
}

// A gateway that loses, repeats and reorders messages alters nothing.
func testSSMUnreliable(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	loss := fakessm.Loss{Lose: 50, Duplicate: 20, Reorder: 7}
	s.gateway.SetFaults(fakessm.Faults{Up: loss, Down: loss})
	p := startProxy(t, s.env, s.proxyArgs("--connect-timeout=3m")...)
	data := newCopied(300_000)
	var both sync.WaitGroup
	both.Go(func() { data.down(t.Context(), t, p) })
	both.Go(func() { data.up(t.Context(), t, p) })
	s.awaitData(t, 100_000)
	s.gateway.Pause()
	s.gateway.Unpause()
	both.Wait()
	if counts := s.gateway.Counts(); counts.Started != 1 || counts.Resent == 0 {
		t.Errorf("%+v", counts)
	}
}

// awaitData waits until n more bytes were transferred.
func (s *sessionManager) awaitData(t testing.TB, n int64) {
	t.Helper()
	transferred := func() int64 { counts := s.gateway.Counts(); return counts.BytesUp + counts.BytesDown }
	goal := transferred() + n
	until(t, "data", func() bool { return transferred() >= goal })
}

// A process that did not run for a while continues its sessions, although its socket was closed
// meanwhile.
func testSSMFrozen(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	p := startProxy(t, s.env, s.proxyArgs("--log-level=info", "--connect-timeout=3m")...)
	ctx, cancel := context.WithTimeout(t.Context(), 5*limit)
	defer cancel()
	data := newCopied(3_000_000)
	var both sync.WaitGroup
	both.Go(func() { data.down(ctx, t, p) })
	both.Go(func() { data.up(ctx, t, p) })
	s.awaitData(t, 500_000)
	p.signal(syscall.SIGSTOP)
	time.Sleep(longOr(30*time.Second, 2*time.Second))
	s.gateway.Bye()
	time.Sleep(longOr(30*time.Second, 2*time.Second))
	p.signal(syscall.SIGCONT)
	both.Wait()
	if counts := s.gateway.Counts(); counts.Started != 1 || counts.Resumed == 0 {
		t.Errorf("%+v", counts)
	}
}

// longestOutage returns the longest time in a log, in seconds, after which a session was resumed.
func longestOutage(log string) (longest float64) {
	for line := range strings.Lines(log) {
		var entry struct {
			After float64 `json:"after_s"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil {
			longest = max(longest, entry.After)
		}
	}
	return longest
}
