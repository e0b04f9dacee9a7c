package e2e

import (
	"bytes"
	"context"
	"crypto/md5" // what PostgreSQL has built in
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// loginPatience bounds the login of a bystander in the worst attack.
const loginPatience = 10 * time.Second

// hostileTime is the duration of an attack: some seconds, or $HOSTILE.
func hostileTime(t *testing.T) time.Duration {
	t.Helper()
	said := os.Getenv("HOSTILE")
	if said == "" {
		return 4 * time.Second
	}
	d, err := time.ParseDuration(said)
	if err != nil {
		t.Fatal("HOSTILE is not a duration: ", err)
	}
	return d
}

// bystanders are sessions that an attack must not affect: they see no error and no wrong
// byte, and make progress.
type bystanders struct {
	t       *testing.T
	p       *process
	before  map[string]float64
	lines   int
	peak    int // MB
	stop    context.CancelFunc
	working sync.WaitGroup
	rounds  [3]atomic.Int64
}

// standBy starts them. They work until leave.
func standBy(t *testing.T, p *process) *bystanders {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	b := &bystanders{t: t, p: p, before: p.metrics(), lines: strings.Count(p.logs(), "\n"), peak: peakMemory(t, p), stop: stop}
	t.Cleanup(stop)
	for i, work := range []func(context.Context, *pgx.Conn) error{echo, nil, copyOut} {
		b.working.Add(1)
		go b.work(ctx, &b.rounds[i], work)
	}
	b.awaitRound("a first")
	return b
}

// work runs one of them. Without a workload it connects anew for each round.
func (b *bystanders) work(ctx context.Context, rounds *atomic.Int64, work func(context.Context, *pgx.Conn) error) {
	defer b.working.Done()
	var conn *pgx.Conn
	var err error
	for ctx.Err() == nil {
		if conn == nil {
			if conn, err = b.connect(); err != nil {
				b.t.Error("a bystander's login: ", err)
				return
			}
		}
		if work != nil {
			err = work(context.Background(), conn)
		} else {
			err = echo(context.Background(), conn)
			_ = conn.Close(context.Background())
			conn = nil
		}
		if err != nil {
			b.t.Error("a bystander: ", err)
			return
		}
		rounds.Add(1)
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

func (b *bystanders) connect() (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loginPatience)
	defer cancel()
	return b.p.connect(ctx, aurora.IAMUser, aurora.Database)
}

func echo(ctx context.Context, conn *pgx.Conn) error {
	var got string
	err := conn.QueryRow(ctx, "select repeat($1, 2000)", "bystander ").Scan(&got)
	if err == nil && got != strings.Repeat("bystander ", 2000) {
		return fmt.Errorf("a wrong answer of %d bytes", len(got))
	}
	return err
}

func copyOut(ctx context.Context, conn *pgx.Conn) error {
	const rows = 2000
	var got, want bytes.Buffer
	if _, err := conn.PgConn().CopyTo(ctx, &got, fmt.Sprintf("copy (select md5(i::text) from generate_series(1, %d) i) to stdout", rows)); err != nil {
		return err
	}
	for i := range rows {
		sum := md5.Sum([]byte(strconv.Itoa(i + 1)))
		want.WriteString(hex.EncodeToString(sum[:]) + "\n")
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		return fmt.Errorf("COPY has %d bytes that are not those asked for", got.Len())
	}
	return nil
}

// awaitRound waits until each of them has finished another round.
func (b *bystanders) awaitRound(which string) {
	b.t.Helper()
	for i := range b.rounds {
		had := b.rounds[i].Load()
		until(b.t, which+" round of each bystander", func() bool { return b.t.Failed() || b.rounds[i].Load() > had })
	}
}

// leave stops them after an attack. Afterwards no connection is left, and the log has at
// most the given number of lines.
func (b *bystanders) leave(lines int) {
	b.t.Helper()
	b.awaitRound("another")
	b.stop()
	b.working.Wait()
	var now map[string]float64
	defer func() {
		if b.t.Failed() {
			b.t.Logf("sessions %v, before %v; goroutines %v, before %v", now["iamproxy_open_sessions"], b.before["iamproxy_open_sessions"],
				now["go_goroutines"], b.before["go_goroutines"])
		}
	}()
	until(b.t, "sessions and goroutines to be gone", func() bool {
		now = b.p.metrics()
		return now["iamproxy_open_sessions"] == b.before["iamproxy_open_sessions"] && now["go_goroutines"] <= b.before["go_goroutines"]+5
	})
	for _, word := range []string{"panic", "DATA RACE"} {
		if strings.Contains(b.p.logs(), word) {
			b.t.Errorf("%q is in the log", word)
		}
	}
	wrote, grown := strings.Count(b.p.logs(), "\n")-b.lines, peakMemory(b.t, b.p)-b.peak
	if wrote > lines {
		b.t.Errorf("%d lines in the log, not %d at most", wrote, lines)
	}
	if grown > 512 { // mostly of the race detector
		b.t.Errorf("the peak of memory has grown by %d MB", grown)
	}
	b.t.Logf("bystanders' rounds: %d queries, %d logins, %d copies; log: %d lines; peak of memory: %d MB more", b.rounds[0].Load(),
		b.rounds[1].Load(), b.rounds[2].Load(), wrote, grown)
}

// peakMemory returns the peak resident memory of the process, in MB.
func peakMemory(t *testing.T, p *process) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kB int
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		t.Fatal(err)
	}
	return kB / 1024
}
