package channel

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

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

// The outage of a WebSocket that did not work begins with its end.
func TestOutageOfFirst(t *testing.T) {
	p := &peer{network: nothing}
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		defer p.stop()
		var outage time.Duration
		config := p.config()
		config.Resumed = func(d time.Duration) { outage = d }
		go func() {
			time.Sleep(time.Second)
			p.setNetwork(nil)
			p.cut(cuts["bye"])
		}()
		c, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if outage > time.Second {
			t.Errorf("outage of %v", outage)
		}
	})
}

// A gateway that closes each WebSocket after a message does not get requests without a pause.
func TestMessageAndClosed(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		p.setNetwork(nothing)
		for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(time.Millisecond) {
			p.control(message.StartPublication)
			p.cut(cuts["bye"])
		}
		if n := p.attempts.Load(); n > 70 {
			t.Errorf("%d attempts in 5 s", n)
		}
		p.setNetwork(nil)
		echo(t, c, 1000)
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

// A connection that is silent for ever, as after a change of the address, is replaced.
func TestSilence(t *testing.T) {
	for name, test := range map[string]struct {
		busy bool
		max  time.Duration
	}{
		"idle": {false, maxSilence + checkInterval + pongTimeout},
		"busy": {true, 2 * time.Second},
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

// What had arrived when a connection failed is received before it is replaced. The agent repeats
// one message at a time.
func TestArrivedBeforeReset(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		const size = 8 * maxBuffered
		for range size / 1024 {
			p.send(message.Output, make([]byte, 1024))
		}
		synctest.Wait()
		p.mu.Lock()
		p.pipe.reset.Store(true)
		p.mu.Unlock()
		began := time.Now()
		if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
			t.Error(err)
		}
		echo(t, c, 100)
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
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

// A wall clock that is set back does not hide a connection that is silent.
func TestClockSetBack(t *testing.T) {
	p := &peer{}
	synctest.Test(t, func(t *testing.T) {
		p.t = t
		defer p.stop()
		began := time.Now()
		config := p.config()
		config.wall = func() time.Time {
			now := time.Now()
			if now.Sub(began) > time.Minute {
				return now.Add(-time.Hour)
			}
			return now
		}
		c, err := Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		time.Sleep(59 * time.Second)
		p.mu.Lock()
		p.pipe.silent.Store(true)
		old := p.pipe
		p.mu.Unlock()
		<-old.closed
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("took %v", took)
		}
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
