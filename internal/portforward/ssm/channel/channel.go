// Package channel is the data channel of a Session Manager session: an ordered and reliable
// stream of bytes to the SSM Agent on a target, over one WebSocket after another.
//
// The message gateway passes messages on. It may lose, repeat and reorder them, and it closes a
// WebSocket about once an hour. Each side numbers its messages of data, acknowledges those that
// it receives, and repeats those that are not acknowledged. The protocol is that of
// aws/session-manager-plugin, src/datachannel/streaming.go, and of aws/amazon-ssm-agent,
// agent/session/datachannel/datachannel.go.
package channel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// handshakeTimeout is the default of Config.HandshakeTimeout. The agent waits 15 s for
	// the client's part.
	handshakeTimeout = 30 * time.Second
	// settleTime is the time between the end of the handshake and the first data. The agent
	// acknowledges and drops data that arrives before it has noted that it has sent the end
	// of the handshake: PerformHandshake and processStreamDataMessage in its datachannel.go.
	settleTime = 50 * time.Millisecond
	// outageLimit is how long a lost WebSocket is replaced before the channel ends.
	outageLimit = 5 * time.Minute
	// agentLimit is how long the agent may acknowledge nothing while the gateway answers. The
	// target may have been replaced, or a database that does not read holds up all
	// connections: the agent passes on no other data meanwhile.
	agentLimit = 5 * time.Minute
)

// Socket is a WebSocket. It is satisfied by *websocket.Conn. CloseNow ends pending calls.
type Socket interface {
	Reader(ctx context.Context) (websocket.MessageType, io.Reader, error)
	Write(ctx context.Context, typ websocket.MessageType, b []byte) error
	Ping(ctx context.Context) error // waits for the pong
	CloseNow() error
}

// Config has the parameters of a channel. Connect and ClientVersion are required.
type Config struct {
	// Connect opens a WebSocket and returns it with the token for it. If resume is set, the
	// channel had a WebSocket before. An error that is no *ConnectError is retried.
	Connect func(ctx context.Context, resume bool) (socket Socket, token string, err error)
	// ClientVersion is sent to the agent, which depends on it.
	ClientVersion string
	// HandshakeTimeout bounds Open. If zero, 30 s.
	HandshakeTimeout time.Duration
	// Flag is called with each flag of the agent, after the data before it was received.
	// May be nil.
	Flag func(message.FlagValue)
	// Lost is called when a WebSocket was lost, and Resumed when another one has replaced
	// it. They may be nil.
	Lost    func(err error)
	Resumed func(outage time.Duration)

	wall     func() time.Time // the wall clock, replaced by tests
	maxEarly int64            // replaced by tests
}

// ConnectError is an error of Connect that is treated in a special way.
type ConnectError struct {
	Err error
	// Final ends the channel.
	Final bool
	// Answered is set if a server has answered. The next attempt is later than after an
	// error of the network.
	Answered bool
}

func (e *ConnectError) Error() string { return e.Err.Error() }

func (e *ConnectError) Unwrap() error { return e.Err }

// The errors that end a channel, beside those of Connect.
var (
	// ErrClosed is the error after Close.
	ErrClosed = errors.New("data channel is closed")
	// ErrHandshakeTimeout is the error if the agent does not finish the handshake.
	ErrHandshakeTimeout = errors.New("SSM Agent did not finish the handshake in time")
	// ErrUnacknowledged is the error if the agent acknowledges nothing for agentLimit.
	ErrUnacknowledged = errors.New("SSM Agent did not acknowledge data for 5 minutes")
	// ErrNoHandshake is the error if the agent sends data without a handshake, as for a
	// session that is not a port forward.
	ErrNoHandshake = errors.New("SSM Agent sent data without a handshake")
)

// EndedError is the error of a channel whose session the service or the agent has ended.
type EndedError struct{ Output string } // the cause as the service gives it, or empty

func (e *EndedError) Error() string {
	if e.Output == "" {
		return "session has ended"
	}
	return fmt.Sprintf("session has ended: %q", e.Output)
}

// ActionError is the error for a handshake with an action that a port forward does not need,
// such as KMS encryption, or with another type of session.
type ActionError struct {
	Action      message.ActionType
	SessionType string // if Action is message.SessionType
}

func (e *ActionError) Error() string {
	if e.Action == message.SessionType {
		return fmt.Sprintf("SSM Agent started a session of type %q instead of a port forward", e.SessionType)
	}
	return fmt.Sprintf("SSM Agent requested %q, which port forwards do not support", e.Action)
}

// LostError is the error after an outage that was too long.
type LostError struct {
	Outage time.Duration
	Err    error // of the last attempt
}

func (e *LostError) Error() string {
	return fmt.Sprintf("could not resume the session within %s: %v", e.Outage.Round(time.Second), e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Channel is an open data channel. It is an io.ReadWriteCloser of the bytes of data. Read must
// not be called by two goroutines at once, nor Write.
type Channel struct {
	config   Config
	clientID string
	stop     context.CancelCauseFunc // ends the channel
	ctx      context.Context         // done when the channel has ended
	done     chan struct{}           // closed when its goroutines have ended
	opened   chan struct{}           // closed when the handshake is complete

	// Signals have a capacity of 1.
	readable, drained chan struct{} // for Read; for the goroutine that receives
	writable, acked   chan struct{} // for Write; for Flush
	work              chan struct{} // for the goroutine that sends
	busy              chan struct{} // for the goroutine that watches: a message needs an answer

	mu       sync.Mutex
	send     sender
	received receiver
	in       bytes.Buffer // data for Read
	agent    string       // version of the agent
	link     link
}

// Open connects, and returns a channel whose handshake is complete. ctx bounds Open alone.
func Open(ctx context.Context, config Config) (*Channel, error) {
	if config.wall == nil {
		config.wall = func() time.Time { return time.Now().Round(0) }
	}
	config.maxEarly = cmp.Or(config.maxEarly, maxEarly)
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(config.HandshakeTimeout, handshakeTimeout), ErrHandshakeTimeout)
	defer cancel()
	socket, token, err := config.Connect(ctx, false)
	if err != nil {
		return nil, err
	}
	c := &Channel{
		config: config, clientID: message.NewID().String(),
		done: make(chan struct{}), opened: make(chan struct{}),
		readable: make(chan struct{}, 1), drained: make(chan struct{}, 1),
		writable: make(chan struct{}, 1), acked: make(chan struct{}, 1),
		work: make(chan struct{}, 1), busy: make(chan struct{}, 1),
	}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	go c.run(socket, token)
	opened := c.opened
	var settled <-chan time.Time
	for {
		select {
		case <-opened:
			opened, settled = nil, time.After(settleTime)
			continue
		case <-settled:
			return c, nil
		case <-c.ctx.Done():
			err = context.Cause(c.ctx)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		c.end(err)
		return nil, err
	}
}

// AgentVersion returns the version of the agent, such as "3.3.0.0".
func (c *Channel) AgentVersion() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agent
}

// Done is closed when the channel has ended. Err returns the cause.
func (c *Channel) Done() <-chan struct{} { return c.ctx.Done() }

// Err returns why the channel has ended, or nil.
func (c *Channel) Err() error { return context.Cause(c.ctx) }

// Close ends the channel. It sends nothing.
func (c *Channel) Close() error {
	c.end(ErrClosed)
	return nil
}

// end ends the channel with err, and waits for its goroutines.
func (c *Channel) end(err error) {
	c.stop(err)
	<-c.done
}

// Terminate asks the agent to end the session, and returns when the agent has acknowledged all
// messages, when the channel has ended or when ctx is done. It does not close the channel.
func (c *Channel) Terminate(ctx context.Context) error {
	c.mu.Lock()
	c.send.add(message.Flag, message.TerminateSession.Encode())
	c.mu.Unlock()
	signal(c.work)
	return c.Flush(ctx)
}

// Flush returns when the agent has acknowledged all that was written before, when the channel has
// ended or when ctx is done. It must not be called by two goroutines at once.
func (c *Channel) Flush(ctx context.Context) error {
	c.mu.Lock()
	end := c.send.base + int64(len(c.send.queue))
	c.mu.Unlock()
	for {
		c.mu.Lock()
		acknowledged := c.send.base >= end
		c.mu.Unlock()
		if acknowledged {
			return nil
		}
		select {
		case <-c.acked:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Read reads data of the agent. After the channel has ended, it returns what was received
// before, and then the cause.
func (c *Channel) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		n, _ := c.in.Read(p)
		if c.in.Len() == 0 && c.in.Cap() > keptBuffer {
			c.in = bytes.Buffer{}
		}
		if c.in.Len()+message.MaxPayload <= maxBuffered {
			c.link.blocked = time.Time{}
		}
		c.mu.Unlock()
		if n > 0 || len(p) == 0 {
			signal(c.drained)
			return n, nil
		}
		select {
		case <-c.readable:
		case <-c.done:
			if c.buffered() == 0 {
				return 0, context.Cause(c.ctx)
			}
		}
	}
}

// Write sends data to the agent. It returns as soon as the data is in the channel's queue.
func (c *Channel) Write(p []byte) (int, error) {
	written := 0
	for {
		if c.ctx.Err() != nil {
			return written, context.Cause(c.ctx)
		}
		c.mu.Lock()
		written += c.send.addData(p[written:])
		c.mu.Unlock()
		signal(c.work)
		if written == len(p) {
			return written, nil
		}
		select {
		case <-c.writable:
		case <-c.ctx.Done():
		}
	}
}

// buffered returns the number of bytes that Read has not returned.
func (c *Channel) buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.Len()
}

// signal ends the current or the next wait of the goroutine that receives from c.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
