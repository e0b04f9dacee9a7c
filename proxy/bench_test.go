package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// What is said in these sessions. It is encoded once, and read into buffers that are
// there, so that the peers allocate nothing while they talk: what is counted is the
// proxy's.
var (
	question = pgwire.Encode(&pgproto3.Query{String: string(make([]byte, 100-pgwire.HeaderSize-1))})
	answer   = slices.Concat(
		pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 70)}}),
		pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}),
		pgwire.Encode(ready))

	// 64 KiB in short messages, as COPY has them: a pool's framing looks at each.
	chunkUp   = bytes.Repeat(pgwire.Encode(&pgproto3.CopyData{Data: make([]byte, 128-pgwire.HeaderSize)}), 512)
	chunkDown = bytes.Repeat(pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 128-pgwire.HeaderSize-6)}}), 512)
)

// recordOverhead is how much longer a record of TLS 1.3 is than what is in it.
const recordOverhead = 5 + 1 + 16

// eachPool runs a benchmark without --pool and with it.
func eachPool(b *testing.B, run func(b *testing.B, pool int)) {
	for _, pool := range []int{0, 1} {
		b.Run(fmt.Sprint("pool=", pool), func(b *testing.B) {
			b.ReportAllocs()
			run(b, pool)
		})
	}
}

// startQuietly starts a proxy that does not log, and its server.
func startQuietly(t testing.TB, pool int, script func(*peer)) (address string) {
	t.Helper()
	ca, s := good(t, script)
	_, address = start(t, ca, s, func(p *Proxy) { p.PoolSize, p.Log = pool, nil })
	return address
}

// BenchmarkSession is a session with one query, from the client's dial to its end.
// With a pool all have the same connection to the server. ready-ns/op is the part of
// it until the client is told that the server is ready, which with a pool is often
// when the reset after the session before is over. Here the allocations are those of
// the client and the server as well: TLS cannot begin without any.
func BenchmarkSession(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		address := startQuietly(b, pool, func(p *peer) {
			p.raw.SetDeadline(time.Time{})
			p.logIn()
			for m := p.message(); m != nil && m[0] == pgwire.Query; m = p.message() {
				p.send(answer)
			}
		})
		buffer := make([]byte, 1024)
		benchSession(b, address, buffer) // a pool has its connection now
		var untilReady time.Duration
		for b.Loop() {
			untilReady += benchSession(b, address, buffer)
		}
		b.ReportMetric(float64(untilReady.Nanoseconds())/float64(b.N), "ready-ns/op")
	})
}

// benchSession does what dial, connected, query and takeLeave do, but leaves nothing to
// be cleaned up at the benchmark's end.
func benchSession(b *testing.B, address string, buffer []byte) (untilReady time.Duration) {
	began := time.Now()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(began.Add(limit))
	exchange := func(request, end []byte) {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(buffer[:n], end); {
			more, err := conn.Read(buffer[n:])
			if n += more; err != nil {
				b.Fatalf("%q, %v", buffer[:n], err)
			}
		}
	}
	exchange(ordinaryStartup, pgwire.Encode(ready))
	untilReady = time.Since(began)
	exchange(question, answer)
	if _, err := conn.Write(goodbye); err != nil {
		b.Fatal(err)
	}
	if n, err := conn.Read(buffer); !errors.Is(err, io.EOF) {
		b.Fatalf("%q, %v, want the end", buffer[:n], err)
	}
	return untilReady
}

// splicedPeers are the ends of a session that has begun. What comes to the server is to
// be read from its raw connection, in TLS, since tls.Conn allocates for each read.
func splicedPeers(t testing.TB, pool int) (client, server *peer) {
	t.Helper()
	loggedIn, done := make(chan *peer, 1), make(chan struct{})
	address := startQuietly(t, pool, func(p *peer) {
		p.logIn()
		loggedIn <- p
		<-done
	})
	t.Cleanup(func() { close(done) })
	client = connected(t, address)
	server = <-loggedIn
	client.raw.SetDeadline(time.Time{})
	server.raw.SetDeadline(time.Time{})
	return client, server
}

// roundTrip returns a function that has a short message go up and another come down.
func roundTrip(t testing.TB, pool int) func() {
	client, server := splicedPeers(t, pool)
	up, down := make([]byte, len(question)+recordOverhead), make([]byte, len(answer))
	pass := func(from io.Writer, message []byte, to io.Reader, buffer []byte) {
		if _, err := from.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, buffer); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		pass(client, question, server.raw, up)
		pass(server, answer, client, down)
	}
}

func BenchmarkSpliceRoundTrip(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		once := roundTrip(b, pool)
		for b.Loop() {
			once()
		}
	})
}

// BenchmarkSpliceUp has the server read what the client sends all the time, but not
// decrypt it: that would take as long as the proxy does.
func BenchmarkSpliceUp(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		client, server := splicedPeers(b, pool)
		benchStream(b, client, chunkUp, server.raw)
	})
}

// BenchmarkSpliceDown is the other way round. Here the server has to encrypt.
func BenchmarkSpliceDown(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		client, server := splicedPeers(b, pool)
		benchStream(b, server, chunkDown, client)
	})
}

// benchStream reads at one end while chunk after chunk is written at the other, until
// the session ends with the benchmark.
func benchStream(b *testing.B, from io.Writer, chunk []byte, to io.Reader) {
	go func() {
		for err := error(nil); err == nil; {
			_, err = from.Write(chunk)
		}
	}()
	buffer := make([]byte, len(chunk))
	b.SetBytes(int64(len(buffer)))
	for b.Loop() {
		if _, err := io.ReadFull(to, buffer); err != nil {
			b.Fatal(err)
		}
	}
}

// While a session goes on nothing is allocated, but for what crypto/tls does for each
// message from the server: an atLeastReader for the read that finds it, and another for
// the read that finds no more (readFromUntil in its conn.go).
func TestRoundTripAllocations(t *testing.T) {
	const most = 2
	if hasRaceDetector() {
		t.Skip("with the race detector a sync.Pool drops some of what it is given")
	}
	for _, pool := range []int{0, 1} {
		t.Run(fmt.Sprint("pool=", pool), func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, roundTrip(t, pool)); n > most {
				t.Errorf("%v allocations, want %d at the most", n, most)
			}
		})
	}
}

func hasRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
