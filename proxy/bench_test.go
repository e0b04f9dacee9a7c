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

// The messages of the benchmarks are encoded once and read into existing buffers. So client and
// server allocate nothing, and the allocations are the proxy's.
var (
	request  = pgwire.Encode(&pgproto3.Query{String: string(make([]byte, 100-pgwire.HeaderSize-1))})
	response = slices.Concat(
		pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 70)}}),
		pgwire.Encode(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}),
		pgwire.Encode(ready))

	// 64 KiB in short messages, as of COPY: with a pool, each is tracked.
	chunkUp   = bytes.Repeat(pgwire.Encode(&pgproto3.CopyData{Data: make([]byte, 128-pgwire.HeaderSize)}), 512)
	chunkDown = bytes.Repeat(pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{make([]byte, 128-pgwire.HeaderSize-6)}}), 512)
)

// recordOverhead is the size of a TLS 1.3 record without its data.
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

// startWithoutLog starts a proxy without a log, and its server.
func startWithoutLog(t testing.TB, pool int, script func(*peer)) (address string) {
	t.Helper()
	ca, s := trustedServer(t, script)
	_, address = startProxy(t, ca, s, func(p *Proxy) { p.MaxIdleConns, p.Log = pool, nil })
	return address
}

// BenchmarkSession measures a session with one query, from the client's dial to its end. With a
// pool, all sessions use one connection to the server. ready-ns/op is the time to the client's
// ReadyForQuery; with a pool it often includes the reset after the session before. The
// allocations include those of client and server: a TLS handshake allocates.
func BenchmarkSession(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		address := startWithoutLog(b, pool, func(p *peer) {
			p.raw.SetDeadline(time.Time{})
			p.acceptLogin()
			for m := p.message(); m != nil && m[0] == pgwire.Query; m = p.message() {
				p.send(response)
			}
		})
		buffer := make([]byte, 1024)
		benchSession(b, address, buffer) // fills the pool
		var untilReady time.Duration
		for b.Loop() {
			untilReady += benchSession(b, address, buffer)
		}
		b.ReportMetric(float64(untilReady.Nanoseconds())/float64(b.N), "ready-ns/op")
	})
}

// benchSession runs a session like dial, openSession, query and closeClean, but without Cleanup
// functions.
func benchSession(b *testing.B, address string, buffer []byte) (untilReady time.Duration) {
	began := time.Now()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(began.Add(testTimeout))
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
	exchange(request, response)
	if _, err := conn.Write(terminate); err != nil {
		b.Fatal(err)
	}
	if n, err := conn.Read(buffer); !errors.Is(err, io.EOF) {
		b.Fatalf("%q, %v, want the end", buffer[:n], err)
	}
	return untilReady
}

// relayedPeers returns the ends of an open session. The server's data is read encrypted,
// from its raw connection, since tls.Conn allocates for each read.
func relayedPeers(t testing.TB, pool int) (client, server *peer) {
	t.Helper()
	loggedIn, done := make(chan *peer, 1), make(chan struct{})
	address := startWithoutLog(t, pool, func(p *peer) {
		p.acceptLogin()
		loggedIn <- p
		<-done
	})
	t.Cleanup(func() { close(done) })
	client = openSession(t, address)
	server = <-loggedIn
	client.raw.SetDeadline(time.Time{})
	server.raw.SetDeadline(time.Time{})
	return client, server
}

// roundTrip returns a function that sends a short message to the server and another back.
func roundTrip(t testing.TB, pool int) func() {
	client, server := relayedPeers(t, pool)
	up, down := make([]byte, len(request)+recordOverhead), make([]byte, len(response))
	pass := func(from io.Writer, message []byte, to io.Reader, buffer []byte) {
		if _, err := from.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, buffer); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		pass(client, request, server.raw, up)
		pass(server, response, client, down)
	}
}

func BenchmarkRelayRoundTrip(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		once := roundTrip(b, pool)
		for b.Loop() {
			once()
		}
	})
}

// BenchmarkRelayUp measures a stream from the client. The server does not decrypt it: that
// would take as long as the proxy's work.
func BenchmarkRelayUp(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		client, server := relayedPeers(b, pool)
		benchStream(b, client, chunkUp, server.raw)
	})
}

// BenchmarkRelayDown measures a stream from the server, which has to encrypt it.
func BenchmarkRelayDown(b *testing.B) {
	eachPool(b, func(b *testing.B, pool int) {
		client, server := relayedPeers(b, pool)
		benchStream(b, server, chunkDown, client)
	})
}

// benchStream reads at one end what is written at the other, chunk by chunk.
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

// Relaying allocates nothing, except that crypto/tls does so for each message from the
// server: an atLeastReader for the read that returns it, and one for the read that finds no
// more (readFromUntil in its conn.go).
func TestRoundTripAllocations(t *testing.T) {
	const most = 2
	if hasRaceDetector() {
		t.Skip("with the race detector a sync.Pool drops some of what it is given")
	}
	for _, pool := range []int{0, 1} {
		t.Run(fmt.Sprint("pool=", pool), func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, roundTrip(t, pool)); n > most {
				t.Errorf("%v allocations, want at most %d", n, most)
			}
		})
	}
}

func hasRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
