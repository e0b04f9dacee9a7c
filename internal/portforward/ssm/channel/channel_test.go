package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

// run runs a test with a clock that does not wait. It fails if a goroutine is left.
func run(t *testing.T, p *peer, test func(t *testing.T, c *Channel)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		defer p.stop()
		c, err := Open(t.Context(), p.config())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		test(t, c)
	})
}

// echo sends random bytes and reads them back.
func echo(t *testing.T, c *Channel, size int) {
	t.Helper()
	data := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for rest := data; len(rest) > 0; {
			n := min(1+random.IntN(5000), len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
	})
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("%d bytes, then %v", n, err)
	}
	writing.Wait()
	if !bytes.Equal(got, data) {
		t.Fatal("bytes were altered")
	}
}

func write(t *testing.T, c *Channel, data string) {
	t.Helper()
	if n, err := c.Write([]byte(data)); err != nil || n != len(data) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestEcho(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		echo(t, c, 1<<20)
		synctest.Wait()
		if c.AgentVersion() != "3.3.0.0" || p.responses[0].ClientVersion != "1.2.999.0" || p.versions[0] != "1.2.999.0" {
			t.Errorf("versions %q, %q", c.AgentVersion(), p.responses[0].ClientVersion)
		}
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if s := c.Stats(); !s.Connected || s.BytesIn != 1<<20 || s.BytesOut != 1<<20 || s.Unacknowledged != 0 || s.Resumes != 0 {
			t.Errorf("got %+v", s)
		}
		for n, times := range p.sent {
			if times != 1 {
				t.Errorf("message %d was sent %d times", n, times)
			}
		}
	})
}

// A write is sent at once, and together with others that wait.
func TestCoalescing(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		write(t, c, "x")
		synctest.Wait()
		if n, _, _ := p.arrived(); n != 2 { // with the handshake
			t.Errorf("%d messages", n)
		}
		p.setNetwork(nothing)
		p.control(message.PausePublication)
		synctest.Wait()
		for range 3000 {
			write(t, c, "y")
		}
		p.setNetwork(nil)
		p.control(message.StartPublication)
		time.Sleep(time.Second)
		if n, _, size := p.arrived(); n > 6 || size != 3001 {
			t.Errorf("%d messages, %d bytes", n, size)
		}
	})
}

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

var cuts = map[string]error{
	"abrupt": errCut,
	"bye":    websocket.CloseError{Code: websocket.StatusNormalClosure, Reason: "Bye"},
}

// The WebSocket is cut when the nth message of the client arrives, from the handshake on.
func TestCutInEachPhase(t *testing.T) {
	for name, cause := range cuts {
		for phase := range 12 {
			t.Run(fmt.Sprint(name, phase), func(t *testing.T) {
				p, n := &peer{}, 0
				p.before = func(*message.Message) {
					if n == phase {
						p.cut(cause)
					}
					n++
				}
				run(t, p, func(t *testing.T, c *Channel) {
					echo(t, c, 20000)
					if n := c.Stats().Resumes; n != 1 {
						t.Errorf("%d resumes", n)
					}
				})
			})
		}
	}
}

// The WebSocket is cut before it has received anything.
func TestCutBeforeHandshake(t *testing.T) {
	p := &peer{network: nothing}
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		defer p.stop()
		go func() {
			time.Sleep(time.Second)
			p.setNetwork(nil)
			p.cut(cuts["bye"])
		}()
		c, err := Open(t.Context(), p.config())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		echo(t, c, 5000)
	})
}

func TestCutRepeatedly(t *testing.T) {
	p := &peer{network: unreliable(1, 0.03, 0.03, 0.03)}
	n := 0
	p.before = func(*message.Message) {
		if n++; n%40 == 0 {
			p.cut(errCut)
		}
	}
	run(t, p, func(t *testing.T, c *Channel) {
		echo(t, c, 300<<10)
		if n := c.Stats().Resumes; n < 10 {
			t.Errorf("%d resumes", n)
		}
	})
}

// Lost and Resumed are called, and the session goes on soon after the network's return.
func TestOutage(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 4*time.Minute + 55*time.Second} {
		t.Run(length.String(), func(t *testing.T) {
			p := &peer{}
			synctest.Test(t, func(t *testing.T) {
				p.t = t
				defer p.stop()
				var lost error
				var outage time.Duration
				config := p.config()
				config.Lost = func(err error) { lost = err }
				config.Resumed = func(d time.Duration) { outage = d }
				c, err := Open(t.Context(), config)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				back := time.Now().Add(length)
				p.mu.Lock()
				p.connectError = func(int) error {
					if time.Now().Before(back) {
						return errors.New("network is unreachable")
					}
					return nil
				}
				p.mu.Unlock()
				p.cut(errCut)
				echo(t, c, 3000)
				if after := time.Since(back); after > time.Second {
					t.Errorf("resumed %v after the return", after)
				}
				if !errors.Is(lost, errCut) || outage < length {
					t.Errorf("lost: %v, outage %v", lost, outage)
				}
			})
		})
	}
}

func TestOutageTooLong(t *testing.T) {
	p := &peer{connectError: func(attempt int) error {
		if attempt > 1 {
			return errors.New("network is unreachable")
		}
		return nil
	}}
	run(t, p, func(t *testing.T, c *Channel) {
		began := time.Now()
		p.cut(errCut)
		_, err := c.Read(make([]byte, 1))
		var lost *LostError
		if !errors.As(err, &lost) || time.Since(began) < outageLimit || time.Since(began) > outageLimit+time.Minute {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if _, err := c.Write([]byte("x")); !errors.As(err, &lost) || !errors.As(c.Err(), &lost) {
			t.Errorf("got %v, %v", err, c.Err())
		}
	})
}

// A server that answers is asked less often than a network that is away.
func TestAnsweredLessOften(t *testing.T) {
	p := &peer{connectError: func(attempt int) error {
		if attempt > 1 {
			return &ConnectError{Err: errors.New("throttled"), Answered: true}
		}
		return nil
	}}
	run(t, p, func(t *testing.T, _ *Channel) {
		p.cut(errCut)
		time.Sleep(time.Minute)
		if p.attempts.Load() > 20 {
			t.Errorf("%d attempts", p.attempts.Load())
		}
	})
}

// A gateway that accepts each WebSocket and closes it is no success.
func TestAcceptedAndClosed(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(nothing)
		for c.Err() == nil {
			p.cut(cuts["bye"])
			time.Sleep(time.Millisecond)
		}
		if lost := (*LostError)(nil); !errors.As(c.Err(), &lost) || p.attempts.Load() > 100 {
			t.Errorf("got %v after %d attempts", c.Err(), p.attempts.Load())
		}
	})
}

func TestResumeRefused(t *testing.T) {
	ended := errors.New("session has ended")
	p := &peer{connectError: func(attempt int) error {
		if attempt > 1 {
			return &ConnectError{Err: ended, Final: true}
		}
		return nil
	}}
	run(t, p, func(t *testing.T, c *Channel) {
		p.cut(errCut)
		<-c.Done()
		if !errors.Is(c.Err(), ended) || p.attempts.Load() != 2 {
			t.Errorf("got %v after %d attempts", c.Err(), p.attempts.Load())
		}
	})
}

func TestConnectFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		p := &peer{t: t, connectError: func(int) error { return refused }}
		if _, err := Open(t.Context(), p.config()); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
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

// The cause is returned after the data that came before it.
func TestChannelClosed(t *testing.T) {
	for _, output := range []string{"", "idle"} {
		p := &peer{}
		run(t, p, func(t *testing.T, c *Channel) {
			p.send(message.Output, []byte("last"))
			p.inject((&message.Message{Type: message.ChannelClosed, Payload: message.Encode(message.ChannelClosedPayload{Output: output})}).Append(nil))
			got, err := io.ReadAll(c)
			var ended *EndedError
			if string(got) != "last" || !errors.As(err, &ended) || ended.Output != output {
				t.Errorf("got %q, %v", got, err)
			}
			if p.attempts.Load() != 1 {
				t.Errorf("%d attempts", p.attempts.Load())
			}
		})
	}
}

func TestRefusedHandshake(t *testing.T) {
	action := func(t message.ActionType, parameters string) message.RequestedAction {
		return message.RequestedAction{ActionType: t, ActionParameters: json.RawMessage(parameters)}
	}
	for name, test := range map[string]struct {
		actions []message.RequestedAction
		want    ActionError
	}{
		"KMS":     {[]message.RequestedAction{action(message.SessionType, `{"SessionType":"Port"}`), action(message.KMSEncryption, `{"KMSKeyId":"K"}`)}, ActionError{Action: message.KMSEncryption}},
		"shell":   {[]message.RequestedAction{action(message.SessionType, `{"SessionType":"Standard_Stream"}`)}, ActionError{message.SessionType, "Standard_Stream"}},
		"unknown": {[]message.RequestedAction{action("Dance", `7`)}, ActionError{Action: "Dance"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{request: &message.HandshakeRequestPayload{AgentVersion: "3.3.0.0", RequestedClientActions: test.actions}}
			synctest.Test(t, func(t *testing.T) {
				p.t = t
				defer p.stop()
				_, err := Open(t.Context(), p.config())
				var refused *ActionError
				if !errors.As(err, &refused) || *refused != test.want {
					t.Fatalf("got %v", err)
				}
			})
		})
	}
}

func TestHalfHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, network: func(toAgent bool, _ int, b []byte) [][]byte {
			if m, _ := message.Parse(b); m.PayloadType == message.HandshakeComplete {
				return nil
			}
			return [][]byte{b}
		}}
		defer p.stop()
		began := time.Now()
		if _, err := Open(t.Context(), p.config()); !errors.Is(err, ErrHandshakeTimeout) || time.Since(began) != handshakeTimeout {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

func TestOpenCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, network: nothing}
		defer p.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Open(ctx, p.config()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestNoHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, request: &message.HandshakeRequestPayload{}}
		defer p.stop()
		go func() {
			time.Sleep(time.Second)
			p.send(message.Output, []byte("$ "))
		}()
		if _, err := Open(t.Context(), p.config()); !errors.Is(err, ErrNoHandshake) {
			t.Errorf("got %v", err)
		}
	})
}

// A connection that is silent for ever, as after a change of the address, is replaced.
func TestSilence(t *testing.T) {
	for name, test := range map[string]struct {
		busy bool
		max  time.Duration
	}{
		"idle": {false, maxSilence + checkInterval + pongTimeout},
		"busy": {true, maxSilenceBusy + 2*checkIntervalBusy + pongTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{}
			run(t, p, func(t *testing.T, c *Channel) {
				time.Sleep(time.Minute)
				p.mu.Lock()
				p.pipe.silent.Store(true)
				old := p.pipe
				p.network = func(_ bool, _ int, b []byte) [][]byte {
					p.mu.Lock()
					defer p.mu.Unlock()
					if p.pipe == old {
						return nil
					}
					return [][]byte{b}
				}
				p.mu.Unlock()
				began := time.Now()
				if test.busy {
					echo(t, c, 100)
				} else {
					<-old.closed
				}
				if took := time.Since(began); took > test.max {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Pings are answered: an idle channel stays, and sends no data.
func TestIdle(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		synctest.Wait()
		_, before, _ := p.arrived()
		time.Sleep(time.Hour)
		if _, n, _ := p.arrived(); c.Stats().Resumes != 0 || n != before {
			t.Errorf("%d resumes, %d messages", c.Stats().Resumes, n-before)
		}
	})
}

// After a sleep, timers have not advanced, and the wall clock has.
func TestSleep(t *testing.T) {
	p := &peer{}
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		defer p.stop()
		var mu sync.Mutex
		var slept time.Duration
		config := p.config()
		config.wall = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(slept)
		}
		c, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p.mu.Lock()
		p.pipe.silent.Store(true)
		old := p.pipe
		p.mu.Unlock()
		mu.Lock()
		slept = time.Hour
		mu.Unlock()
		began := time.Now()
		<-old.closed
		if took := time.Since(began); took > checkInterval+pongTimeout {
			t.Errorf("took %v", took)
		}
		echo(t, c, 100)
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
		p.cut(errCut)
		time.Sleep(time.Second)
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Error(err)
		}
	})
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

func TestTerminate(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		if err := c.Terminate(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(p.flags) != 1 || p.flags[0] != message.TerminateSession {
			t.Errorf("got %v", p.flags)
		}
		p.setNetwork(nothing)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Terminate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t}
		defer p.stop()
		flags := make(chan message.FlagValue, 9)
		config := p.config()
		config.Flag = func(f message.FlagValue) { flags <- f }
		c, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p.send(message.Flag, []byte("odd"))
		p.send(message.Flag, message.ConnectToPortError.Encode())
		if got := <-flags; got != message.ConnectToPortError {
			t.Errorf("got %v", got)
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

func TestClose(t *testing.T) {
	p := &peer{hold: true}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(nothing)
		var users sync.WaitGroup
		users.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
				t.Errorf("Read: %v", err)
			}
		})
		users.Go(func() {
			if _, err := c.Write(make([]byte, 4<<20)); !errors.Is(err, ErrClosed) {
				t.Errorf("Write: %v", err)
			}
		})
		synctest.Wait()
		c.Close()
		c.Close()
		users.Wait()
	})
}

// Close ends an attempt to reconnect.
func TestCloseDuringOutage(t *testing.T) {
	p := &peer{connectError: func(attempt int) error {
		if attempt > 1 {
			return errors.New("network is unreachable")
		}
		return nil
	}}
	run(t, p, func(t *testing.T, c *Channel) {
		p.cut(errCut)
		time.Sleep(time.Minute)
		c.Close()
		if !errors.Is(c.Err(), ErrClosed) {
			t.Errorf("got %v", c.Err())
		}
	})
}
