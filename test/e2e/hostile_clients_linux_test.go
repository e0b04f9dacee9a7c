package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// hostileWorkers is the number of concurrent attackers.
const hostileWorkers = 8

// packet returns a startup packet: its length, a code and a body.
func packet(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	return append(binary.BigEndian.AppendUint32(b, code), rest...)
}

// startPackets are first packets, most of them valid.
var startPackets = [][]byte{
	packet(196608, "user\x00"+aurora.IAMUser+"\x00database\x00"+aurora.Database+"\x00\x00"),
	packet(196610, "user\x00"+aurora.IAMUser+"\x00_pq_.new\x001\x00database\x00"+aurora.Database+"\x00\x00"),
	packet(196608+999, "user\x00"+aurora.IAMUser+"\x00\x00"),
	packet(131072, "user\x00old\x00\x00"),
	packet(196608, "user\x00"+aurora.IAMUser),
	packet(196608, strings.Repeat("a\x00b\x00", 2400)+"\x00"),
	packet(196608, "\x00\x00\x00\x00"),
	packet(80877103, ""),
	append(packet(80877103, ""), packet(80877103, "")...),
	packet(80877104, ""),
	append(packet(80877104, ""), packet(80877103, "")...),
	packet(80877102, "\x00\x00\x00\x01\x00\x00\x00\x02"),
	packet(80877102, strings.Repeat("k", 260)),
	packet(80877102, strings.Repeat("k", 9000)),
	[]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"),
	[]byte("\x16\x03\x01\xff\xff" + strings.Repeat("h", 9000)),
	[]byte("GET / HTTP/1.1\r\nHost: db\r\n\r\n"),
	nil,
}

// hostileStart returns a random first packet, or a mutated one.
func hostileStart(random *rand.Rand) []byte {
	b := bytes.Clone(startPackets[random.IntN(len(startPackets))])
	switch random.IntN(6) {
	case 0:
		b = make([]byte, random.IntN(12_000))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	case 1:
		if len(b) >= 4 {
			lengths := []uint32{0, 3, 4, 7, 8, 9, 10_000, 10_001, 1 << 31, 1<<31 - 1, 1<<32 - 1}
			binary.BigEndian.PutUint32(b, lengths[random.IntN(len(lengths))])
		}
	case 2:
		for range 1 + random.IntN(4) {
			if len(b) > 0 {
				b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			}
		}
	case 3:
		b = b[:random.IntN(len(b)+1)]
	case 4:
		b = append(b, startPackets[random.IntN(len(startPackets))]...)
	}
	return b
}

// attack sends b in pieces, and then ends, resets the connection or falls silent. The
// answer must be well-formed, and the proxy must end the connection.
func attack(address string, random *rand.Rand, b []byte) error {
	socket, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	conn := socket.(*net.TCPConn)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	for len(b) > 0 {
		n := 1 + random.IntN(len(b))
		if _, err := conn.Write(b[:n]); err != nil {
			break // it has been answered already
		}
		b = b[n:]
	}
	switch random.IntN(200) {
	case 0: // silent; a session may have been opened, and is left alone
		one := make([]byte, 1)
		_, err = conn.Read(one)
		return unanswered(err)
	case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
		return conn.SetLinger(0)
	}
	_ = conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		return unanswered(err)
	}
	return wellFormed(answer)
}

// unanswered returns err if no answer came. A closed connection is an answer.
func unanswered(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("no answer, and no end of the connection")
	}
	return nil
}

// wellFormed checks a complete answer: one byte for an encryption request, a TLS record, or
// messages.
func wellFormed(answer []byte) error {
	b := answer
	for len(b) > 0 && (b[0] == 'N' || b[0] == 'S') && (len(b) == 1 || b[1] != 0) {
		b = b[1:]
	}
	for len(b) > 0 {
		if b[0] == 0x15 || b[0] == 0x16 {
			return nil
		}
		if len(b) < 5 || !bytes.ContainsRune([]byte("ERSKZNvCDT"), rune(b[0])) {
			return fmt.Errorf("not a message of a server: %q", answer)
		}
		n := binary.BigEndian.Uint32(b[1:])
		if n < 4 || uint64(n) > uint64(len(b)-1) {
			return fmt.Errorf("a message of %d bytes in %q", n, answer)
		}
		if b[0] == 'E' && !bytes.Contains(b[:n+1], []byte("VFATAL\x00")) {
			return fmt.Errorf("an error that is not fatal: %q", answer)
		}
		b = b[n+1:]
	}
	return nil
}

// attackAll runs the workers for hostileTime.
func attackAll(t *testing.T, one func(random *rand.Rand) error) (attacks int64) {
	t.Helper()
	var count atomic.Int64
	var working sync.WaitGroup
	end := time.Now().Add(hostileTime(t))
	for worker := range uint64(hostileWorkers) {
		working.Go(func() {
			for n := uint64(0); time.Now().Before(end) && !t.Failed(); n++ {
				if err := one(rand.New(rand.NewPCG(worker, n))); err != nil {
					t.Errorf("seed %d, %d: %v", worker, n, err)
				}
				count.Add(1)
			}
		})
	}
	working.Wait()
	return count.Load()
}

// Any first packet is answered within the protocol or the connection is closed. Bystanders
// are not affected.
func TestHostileStartPackets(t *testing.T) {
	cluster := startCluster(t, &aurora.Cluster{})
	for name, more := range map[string][]string{"plain": nil, "TLS": {"--listen-tls=self-signed"}} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, append(more, "--connect-timeout=5s", "--log-level=info")...)...)
			b := standBy(t, p)
			attacks := attackAll(t, func(random *rand.Rand) error {
				return attack(p.listens[0], random, hostileStart(random))
			})
			t.Logf("%d attacks", attacks)
			b.leave(int(attacks)/2 + 100)
		})
	}
}

// Clients that disconnect at once, or within a packet, leave no connections.
func TestHostileConnects(t *testing.T) {
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster, "--log-level=info")...)
	b := standBy(t, p)
	attacks := attackAll(t, func(random *rand.Rand) error {
		from := net.IPv4(127, byte(random.Uint32()), byte(random.Uint32()), byte(1+random.IntN(250))) // ports run out
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: limit}
		conn, err := dialer.Dial("tcp", p.listens[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		if random.IntN(2) == 0 {
			_, _ = conn.Write(startPackets[0][:random.IntN(len(startPackets[0]))])
		}
		return conn.(*net.TCPConn).SetLinger(-random.IntN(2)) // with or without a reset
	})
	t.Logf("%d connections", attacks)
	b.leave(int(attacks)/10 + 100)
}
