package channel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// Only the first request is answered, so that repeated ones do not fill the memory.
func TestRepeatedHandshake(t *testing.T) {
	p := &peer{}
	run(t, p, func(t *testing.T, c *Channel) {
		for range 10 {
			p.send(message.HandshakeRequest, message.Encode(message.HandshakeRequestPayload{AgentVersion: "3.3.0.0"}))
		}
		echo(t, c, 100)
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.responses) != 1 {
			t.Errorf("%d responses", len(p.responses))
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
