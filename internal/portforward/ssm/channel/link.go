package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// attemptTimeout bounds one attempt to replace a WebSocket.
	attemptTimeout = 15 * time.Second
	// The delay between two attempts doubles from minDelay. After an error of the network it
	// is limited so that the session goes on soon after the network's return.
	minDelay, maxDelay, maxDelayAnswered = 100 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second
	// healthyAfter is the age at which a WebSocket that received nothing was no failure.
	healthyAfter = 10 * time.Second
	// tolerated is the number of WebSockets in a row that are replaced without a delay
	// although they did not become so old.
	tolerated = 10

	// After a failed write, messages that have arrived are still received: until none is
	// received within drainInterval, and for no longer than drainTimeout.
	drainInterval, drainTimeout = 100 * time.Millisecond, 2 * time.Second

	// A WebSocket that is silent for maxSilence is pinged, or for maxSilenceBusy while a
	// message is not acknowledged. It is lost if nothing arrives in time: a machine with a
	// new address receives no error for its old connection. AWS's client pings each 5 minutes
	// and does not wait for the pong. A ping does not defeat the idle timeout of Session
	// Manager, which counts messages of data: AWS's client disables the keep-alive of smux,
	// which are such messages, and still pings (aws/session-manager-plugin,
	// src/communicator/websocketchannel.go and
	// src/sessionmanagerplugin/session/portsession/muxportforwarding.go).
	maxSilence, maxSilenceBusy = 15 * time.Second, 500 * time.Millisecond
	// A pong is waited for pongTimeout, or for pongRoundTrips but not less than minPong
	// while a message is not acknowledged. A needless replacement loses nothing.
	pongTimeout, minPong, pongRoundTrips = 3 * time.Second, time.Second, 8
	// The silence is checked at these intervals. It is measured by the wall clock, too, which
	// goes on while a machine sleeps. The monotonic clock and timers do not.
	checkInterval, checkIntervalBusy = 5 * time.Second, 250 * time.Millisecond
)

var errSilent = errors.New("message gateway does not answer")

// link has the state of the WebSocket.
type link struct {
	connected bool
	since     time.Time // of connected
	heard     time.Time // when something has arrived
	heardAt   time.Time // likewise, by the wall clock
	blocked   time.Time // since when nothing is received until Read makes room, or zero
	messages  uint64
	resumes   uint64
}

// Stats describes a channel.
type Stats struct {
	Connected bool
	Since     time.Time // when the WebSocket was opened, or was lost
	Resumes   uint64    // WebSockets that have replaced another one
	// BytesIn and BytesOut count data, without headers.
	BytesIn, BytesOut uint64
	// RoundTrip is the smoothed time until a message is acknowledged, or zero.
	RoundTrip time.Duration
	// Unacknowledged is the number of bytes that were written and are not acknowledged.
	Unacknowledged int
	// Blocked is when the channel stopped to receive because Read was not called, or zero.
	Blocked time.Time
}

// Stats returns the current values.
func (c *Channel) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Connected: c.link.connected, Since: c.link.since, Resumes: c.link.resumes,
		BytesIn: c.received.total, BytesOut: c.send.total, RoundTrip: c.send.roundTrip, Unacknowledged: c.send.bytes,
		Blocked: c.link.blocked,
	}
}

// outage is a time without a WebSocket that works.
type outage struct {
	began time.Time
	delay time.Duration
	// tried is the time that was spent on attempts, so that the session is not given up
	// while the machine sleeps.
	tried time.Duration
	// early is the number of WebSockets in a row that failed before healthyAfter.
	early int
}

// run uses one WebSocket after another until the channel ends.
func (c *Channel) run(socket Socket, token string) {
	defer close(c.done)
	var o outage
	for {
		opened := time.Now()
		received, err := c.serve(socket, token)
		if c.ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch {
		case now.Sub(opened) >= healthyAfter:
			o = outage{began: now}
		case received:
			o = outage{began: now, early: o.early + 1}
			if o.early > tolerated {
				o.delay = minDelay
			}
		default:
			o.began = cmp.Or(o.began, now)
			if err := o.failed(err, maxDelayAnswered, minDelay); err != nil {
				c.stop(err)
				return
			}
		}
		if c.config.Lost != nil {
			c.config.Lost(err)
		}
		if socket, token, err = c.reconnect(&o); err != nil {
			c.stop(err)
			return
		}
		c.mu.Lock()
		c.send.resume()
		c.link.resumes++
		c.mu.Unlock()
		if c.config.Resumed != nil {
			c.config.Resumed(time.Since(o.began))
		}
	}
}

// serve uses a WebSocket until it fails or the channel ends. It reports whether a message was
// received.
func (c *Channel) serve(socket Socket, token string) (received bool, err error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	c.mu.Lock()
	messages := c.link.messages
	c.link.connected, c.link.since = true, time.Now()
	c.mu.Unlock()
	c.heard(0)
	var tasks sync.WaitGroup
	ended := make(chan struct{})
	tasks.Go(func() {
		err := c.sendTo(ctx, socket, token)
		c.drain(ended)
		cancel(err)
	})
	tasks.Go(func() {
		cancel(c.receiveFrom(ctx, socket))
		close(ended)
	})
	tasks.Go(func() { cancel(c.watch(ctx, socket)) })
	<-ctx.Done()
	socket.CloseNow() //nolint:errcheck // it is not used again
	tasks.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.connected, c.link.since = false, time.Now()
	return c.link.messages > messages, context.Cause(ctx)
}

// drain waits until the messages that have arrived are received: a connection that was reset still
// has them. The agent repeats only ten messages a second.
func (c *Channel) drain(received <-chan struct{}) {
	messages := func() uint64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.link.messages
	}
	timeout := time.After(drainTimeout)
	for before := messages(); ; {
		select {
		case <-received:
			return
		case <-timeout:
			return
		case <-time.After(drainInterval):
		}
		now := messages()
		if now == before {
			return
		}
		before = now
	}
}

// reconnect returns another WebSocket.
func (c *Channel) reconnect(o *outage) (Socket, string, error) {
	for {
		select {
		case <-time.After(o.delay):
		case <-c.ctx.Done():
			return nil, "", context.Cause(c.ctx)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(c.ctx, attemptTimeout)
		socket, token, err := c.config.Connect(ctx, true)
		cancel()
		if err == nil {
			return socket, token, nil
		}
		if c.ctx.Err() != nil {
			return nil, "", context.Cause(c.ctx)
		}
		limit := maxDelay
		if special := (*ConnectError)(nil); errors.As(err, &special) {
			if special.Final {
				return nil, "", special.Err
			}
			if special.Answered {
				limit = maxDelayAnswered
			}
		}
		if err := o.failed(err, limit, time.Since(began)); err != nil {
			return nil, "", err
		}
	}
}

// failed takes an attempt into account that failed. It returns an error if it was the last one.
func (o *outage) failed(err error, limit, took time.Duration) error {
	o.tried += o.delay + min(took, attemptTimeout)
	if o.tried >= outageLimit {
		return &LostError{Outage: o.tried, Err: err}
	}
	o.delay = min(max(2*o.delay, minDelay), limit)
	return nil
}

// heard records the time of an arrival, and counts messages.
func (c *Channel) heard(messages uint64) {
	now, wall := time.Now(), c.config.wall()
	c.mu.Lock()
	c.link.heard, c.link.heardAt = now, wall
	c.link.messages += messages
	c.mu.Unlock()
}

// silence returns for how long nothing has arrived, and whether a message is not acknowledged.
func (c *Channel) silence() (silence time.Duration, busy bool) {
	now, wall := time.Now(), c.config.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.link.blocked.IsZero() {
		return 0, false
	}
	return max(now.Sub(c.link.heard), wall.Sub(c.link.heardAt)), c.send.unacked > 0
}

// progressed reports whether the agent has acknowledged a message since a time, or did not have to,
// or could not because nothing is received.
func (c *Channel) progressed(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send.unacked == 0 || !c.link.blocked.IsZero() || !c.send.progress.Before(since)
}

// watch returns an error if the WebSocket is dead. It ends the channel if the agent is.
func (c *Channel) watch(ctx context.Context, socket Socket) error {
	var stalled time.Duration // without the time in which the process was frozen
	for checked := time.Now(); ; {
		since := checked
		checked = time.Now()
		if stalled += min(checked.Sub(since), 2*checkInterval); c.progressed(since) {
			stalled = 0
		}
		if stalled >= agentLimit {
			c.stop(ErrUnacknowledged)
			return ErrUnacknowledged
		}
		interval, limit := checkInterval, maxSilence
		if _, busy := c.silence(); busy {
			interval, limit = checkIntervalBusy, maxSilenceBusy
		}
		select {
		case <-time.After(interval):
		case <-c.busy:
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		if silence, _ := c.silence(); silence < limit {
			continue
		}
		timeout := c.pongTimeout()
		within, cancel := context.WithTimeout(ctx, timeout)
		err := socket.Ping(within)
		cancel()
		if err == nil {
			c.heard(0)
		} else if silence, _ := c.silence(); silence >= timeout { // a pong may wait in a queue while data arrives
			return errSilent
		}
	}
}

// pongTimeout returns how long a pong is waited for.
func (c *Channel) pongTimeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.send.unacked == 0 || c.send.roundTrip == 0 {
		return pongTimeout
	}
	return min(max(pongRoundTrips*c.send.roundTrip, minPong), pongTimeout)
}

// answerHandshake answers the agent's request. It accepts a port forward and nothing else, and
// answers once.
func (c *Channel) answerHandshake(socket Socket, payload []byte) error {
	if c.received.handshake { // which only this goroutine sets
		return nil
	}
	var request message.HandshakeRequestPayload
	if err := json.Unmarshal(payload, &request); err != nil {
		return fmt.Errorf("SSM Agent sent an invalid handshake: %w", err)
	}
	response := message.HandshakeResponsePayload{ClientVersion: c.config.ClientVersion, ProcessedClientActions: []message.ProcessedAction{}}
	var refused error
	for _, action := range request.RequestedClientActions {
		processed := message.ProcessedAction{ActionType: action.ActionType, ActionStatus: message.Success}
		if err := c.refuse(action); err != nil {
			refused = err
			processed.ActionStatus, processed.Error = message.Unsupported, err.Error()
			response.Errors = append(response.Errors, err.Error())
		}
		response.ProcessedClientActions = append(response.ProcessedClientActions, processed)
	}
	c.mu.Lock()
	c.agent, c.received.handshake = request.AgentVersion, true
	c.send.add(message.HandshakeResponse, message.Encode(response))
	if refused == nil {
		c.mu.Unlock()
		signal(c.work)
		return nil
	}
	m, _ := c.send.next(time.Now())
	c.mu.Unlock()
	if m != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		socket.Write(ctx, websocket.MessageBinary, m.b) //nolint:errcheck // the agent's log has it, at best
	}
	return refused
}

// refuse returns an *ActionError if the action is not that of a port forward.
func (c *Channel) refuse(action message.RequestedAction) error {
	var parameters message.SessionTypeParameters
	if action.ActionType == message.SessionType {
		if json.Unmarshal(action.ActionParameters, &parameters) == nil && parameters.SessionType == message.PortSession {
			return nil
		}
	}
	return &ActionError{Action: action.ActionType, SessionType: parameters.SessionType}
}

// complete ends Open.
func (c *Channel) complete() {
	select {
	case <-c.opened:
	default:
		close(c.opened)
	}
}
