package channel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

// Each message of a session is lost once in turn.
func TestEachLost(t *testing.T) {
	for _, toAgent := range []bool{false, true} {
		for lost := range 14 {
			t.Run(fmt.Sprint(toAgent, lost), func(t *testing.T) {
				p := &peer{network: func(direction bool, n int, b []byte) [][]byte {
					if direction == toAgent && n == lost {
						return nil
					}
					return [][]byte{b}
				}}
				run(t, p, func(t *testing.T, c *Channel) {
					began := time.Now()
					echo(t, c, 6000)
					if took := time.Since(began); took > 1500*time.Millisecond {
						t.Errorf("took %v", took)
					}
				})
			})
		}
	}
}

// unreliable loses, repeats and reorders messages.
func unreliable(seed uint64, lose, repeat, reorder float64) func(bool, int, []byte) [][]byte {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	held := map[bool][][]byte{}
	return func(toAgent bool, _ int, b []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		var out [][]byte
		switch chance := random.Float64(); {
		case chance < lose:
		case chance < lose+repeat:
			out = [][]byte{b, b}
		case chance < lose+repeat+reorder:
			held[toAgent] = append(held[toAgent], b)
			return nil
		default:
			out = [][]byte{b}
		}
		if random.Float64() < 0.2 {
			out = append(out, held[toAgent]...)
			held[toAgent] = nil
		}
		return out
	}
}

func TestUnreliableNetwork(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := &peer{network: unreliable(seed, 0.05, 0.05, 0.1)}
			run(t, p, func(t *testing.T, c *Channel) { echo(t, c, 100<<10) })
		})
	}
}

// A lost message is repeated after those that follow it were acknowledged, without a timeout.
func TestFastResend(t *testing.T) {
	p := &peer{hold: true, network: func(toAgent bool, n int, b []byte) [][]byte {
		if toAgent && n > 2 && n%20 == 0 {
			return nil
		}
		return [][]byte{b}
	}}
	run(t, p, func(t *testing.T, c *Channel) {
		began := time.Now()
		if _, err := c.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// Acknowledgements of the client are lost: the agent repeats its messages, and these are
// acknowledged again.
func TestAcknowledgementsLost(t *testing.T) {
	lost := 0
	p := &peer{network: func(toAgent bool, _ int, b []byte) [][]byte {
		if m, _ := message.Parse(b); m.Type == message.Acknowledge && lost < 30 {
			lost++
			return nil
		}
		return [][]byte{b}
	}}
	run(t, p, func(t *testing.T, c *Channel) {
		echo(t, c, 8000)
		time.Sleep(30 * time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.unacked) != 0 || c.Stats().Unacknowledged != 0 {
			t.Errorf("not acknowledged: %d of the agent, %d bytes of the client", len(p.unacked), c.Stats().Unacknowledged)
		}
	})
}

// Messages beyond the buffer are not acknowledged, so that the agent repeats them.
func TestReorderingBeyondBuffer(t *testing.T) {
	const first, limit = 2, 100
	var held []byte
	p := &peer{maxEarly: limit}
	p.network = func(toAgent bool, n int, b []byte) [][]byte {
		if !toAgent && n == first+1 { // after the acknowledgement of the handshake
			held = b
			return nil
		}
		return [][]byte{b}
	}
	run(t, p, func(t *testing.T, c *Channel) {
		var want bytes.Buffer
		for i := range 3 * limit {
			data := fmt.Appendf(nil, "%d ", i)
			want.Write(data)
			p.send(message.Output, data)
		}
		if held == nil {
			t.Fatal("nothing was held")
		}
		got := make([]byte, want.Len())
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%v, altered: %v", err, !bytes.Equal(got, want.Bytes()))
		}
	})
}

func TestPause(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(nothing) // the agent is away
		_, before, _ := p.arrived()
		p.control(message.PausePublication)
		synctest.Wait()
		write(t, c, string(make([]byte, 50<<10)))
		time.Sleep(10 * time.Second)
		if _, n, _ := p.arrived(); n-before > 15 {
			t.Errorf("%d messages while paused", n-before)
		}
		p.setNetwork(nil)
		p.control(message.StartPublication)
		time.Sleep(time.Second)
		if _, _, size := p.arrived(); size != 50<<10 {
			t.Errorf("%d bytes", size)
		}
	})
}

// While nothing reads, little is buffered, and the connection is not taken for dead.
func TestNoReader(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		const size = 2 << 20
		for range size / 1024 {
			p.send(message.Output, make([]byte, 1024))
		}
		p.mu.Lock()
		p.pipe.silent.Store(true) // a pong is not read
		p.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if n := c.buffered(); n > maxBuffered || c.Stats().Resumes != 0 {
			t.Errorf("%d bytes are buffered, %d resumes", n, c.Stats().Resumes)
		}
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Error(err)
		}
	})
}

// A cut while nothing reads loses nothing.
func TestCutWithoutReader(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		const size = 2 << 20
		for range size / 1024 {
			p.send(message.Output, make([]byte, 1024))
		}
		time.Sleep(time.Second)
		blocked := c.Stats().Blocked
		p.cut(errCut)
		write(t, c, "x") // which notices
		time.Sleep(10 * time.Second)
		if c.Stats().Resumes != 1 || blocked.IsZero() || !c.Stats().Blocked.Equal(blocked) {
			t.Errorf("got %+v; blocked since %v", c.Stats(), blocked)
		}
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Error(err)
		}
	})
}

// An agent that acknowledges nothing is given up, though the gateway answers: its target may have
// been replaced. What is not read does not count.
func TestAgentAway(t *testing.T) {
	for name, test := range map[string]struct {
		full bool
		want error
	}{"away": {false, ErrUnacknowledged}, "no reader": {true, nil}} {
		t.Run(name, func(t *testing.T) {
			p := &peer{hold: true}
			run(t, p, func(t *testing.T, c *Channel) {
				time.Sleep(time.Hour)
				if test.full {
					for range 2 * maxBuffered / message.MaxPayload {
						p.send(message.Output, make([]byte, message.MaxPayload))
					}
				} else {
					p.setNetwork(nothing)
				}
				write(t, c, "x")
				time.Sleep(agentLimit - time.Second)
				if c.Err() != nil {
					t.Errorf("got %v", c.Err())
				}
				time.Sleep(2*checkInterval + time.Second)
				if err := c.Err(); !errors.Is(err, test.want) || c.Stats().Resumes != 0 {
					t.Errorf("got %v, %+v", err, c.Stats())
				}
			})
		})
	}
}

// While nothing is acknowledged, Write blocks, and little is kept.
func TestWindow(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(nothing)
		go c.Write(make([]byte, 4<<20)) //nolint:errcheck // Close ends it
		time.Sleep(10 * time.Second)
		if n := c.Stats().Unacknowledged; n > (window+maxUnsent)*message.MaxPayload {
			t.Errorf("%d bytes", n)
		}
	})
}

// What cannot be parsed, or has an unknown type, is ignored.
func TestNoise(t *testing.T) {
	p := &peer{}
	p.network = func(toAgent bool, _ int, b []byte) [][]byte {
		if toAgent {
			return [][]byte{b}
		}
		altered := bytes.Clone(b)
		altered[len(altered)-1] ^= 1
		unknown := (&message.Message{Type: "unknown", Created: time.Now()}).Append(nil)
		return [][]byte{nil, []byte("noise"), altered, b[:len(b)-1], unknown, make([]byte, 5000), b}
	}
	run(t, p, func(t *testing.T, c *Channel) { echo(t, c, 20000) })
}

// A message that is too long ends the WebSocket, not the session.
func TestTooLong(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		p.inject(make([]byte, maxMessage+1))
		echo(t, c, 1000)
		if c.Stats().Resumes != 1 {
			t.Error("not resumed")
		}
	})
}

// delayed is a network whose messages to the agent arrive in turn, each as long after the one before
// as size takes, and after a time. It loses them while lost returns true.
func delayed(p *peer, size, after time.Duration, lost func() bool) func(toAgent bool, n int, b []byte) [][]byte {
	var mu sync.Mutex
	var free time.Time
	return func(toAgent bool, _ int, b []byte) [][]byte {
		if !toAgent {
			return [][]byte{b}
		}
		if lost() {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); free.Before(now) {
			free = now
		}
		free = free.Add(size)
		time.AfterFunc(time.Until(free)+after, func() {
			m, err := message.Parse(b)
			if err != nil {
				p.t.Error(err)
			}
			p.handle(m)
		})
		return nil
	}
}

// A slow uplink does not get all messages twice.
func TestSlowUplink(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(delayed(p, 4*time.Millisecond, 0, func() bool { return false }))
		_, before, _ := p.arrived()
		const messages = 4096
		if _, err := c.Write(make([]byte, messages*message.MaxPayload)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, n, size := p.arrived(); size != messages*message.MaxPayload || n-before > messages*5/4 {
			t.Errorf("%d messages for %d, %d bytes", n-before, messages, size)
		}
	})
}

// All messages of a window that was lost are repeated soon, as when the agent loses its WebSocket.
func TestWindowLost(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		var away atomic.Bool
		p.setNetwork(delayed(p, 100*time.Microsecond, 50*time.Millisecond, away.Load))
		data := string(make([]byte, 300*message.MaxPayload))
		write(t, c, data)
		time.Sleep(time.Second)
		away.Store(true)
		write(t, c, data)
		time.Sleep(2 * time.Second)
		began := time.Now()
		away.Store(false)
		for c.Stats().Unacknowledged > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
