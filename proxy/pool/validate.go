package pool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

const (
	// serverResetTimeout bounds the reset of a connection.
	serverResetTimeout = 5 * time.Second
	// serverCheckDelay is the default of Pool.CheckDelay.
	serverCheckDelay = time.Second
	// The server has loginMultiple times the duration of its login to answer a check, within
	// limits. A client that waits for a lost connection could have logged in meanwhile.
	loginMultiple   = 4
	minCheckTimeout = 200 * time.Millisecond
	maxCheckTimeout = time.Second
	// suspendedTime is the delay of a timeout from which it is attributed to a suspension of the
	// process.
	suspendedTime = time.Second
)

// serverResetQuery resets a session. The manual says that RESET ROLE restores a role that
// ALTER ROLE ... SET role sets at a login; it does not say so of DISCARD ALL, which does it
// in 15.18. In one write the two cost no more than one.
// https://www.postgresql.org/docs/current/sql-set-role.html
var serverResetQuery = slices.Concat(pgwire.Encode(&pgproto3.Query{String: "DISCARD ALL"}), pgwire.Encode(&pgproto3.Query{String: "RESET ROLE"}))

// resetAnswers is the number of ReadyForQuery in answer to serverResetQuery.
const resetAnswers = 2

// serverCheckQuery has no effect.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
var serverCheckQuery = pgwire.Encode(&pgproto3.Sync{})

// errNotReady is the error of a server that does not answer like one that was idle.
var errNotReady = errors.New("unexpected response of the server")

// Validate returns an error if the connection has ended, does not answer, or, where
// writable is set, leads to a server that accepts no writes. timeout bounds each step, as does
// a multiple of the time of the login.
func (c *Conn) Validate(timeout time.Duration, writable bool) error {
	timeout = min(c.checkTimeout(), timeout)
	if err := c.DrainPending(c.tracker.Scan); err != nil {
		return err
	}
	if !c.tracker.Idle() {
		return errNotReady
	}
	if c.IdleTime() > cmp.Or(c.pool.CheckDelay, serverCheckDelay) {
		if err := c.exchange(serverCheckQuery, 1, timeout); err != nil {
			return err
		}
	}
	if !writable {
		return nil
	}
	return c.checkWritable(timeout)
}

// checkTimeout returns how long the server may take to answer a check.
func (c *Conn) checkTimeout() time.Duration {
	return min(max(loginMultiple*(c.Timings.TLS+c.Timings.Login), minCheckTimeout), maxCheckTimeout)
}

func (c *Conn) checkWritable(timeout time.Duration) error {
	c.SetDeadline(time.Now().Add(timeout))
	defer c.SetDeadline(time.Time{})
	r := &upstream.LoginResult{Parameters: map[string]string{
		upstream.InHotStandby:    c.reply.parameter(upstream.InHotStandby),
		upstream.ReadOnlyDefault: c.reply.parameter(upstream.ReadOnlyDefault),
	}}
	if err := upstream.CheckWritable(c.Conn, r); err != nil {
		return err
	}
	c.tracker.Scan(r.StartupReply()) // messages that came beside the answer
	return nil
}

// reset makes the session one that has just begun.
func (c *Conn) reset() error {
	if err := c.exchange(serverResetQuery, resetAnswers, serverResetTimeout); err != nil {
		return fmt.Errorf("it cannot be reset: %w", err)
	}
	return nil
}

// exchange sends a request and reads until the given number of ReadyForQuery. Any answer
// but success is an error. If the process was suspended beyond the deadline, the answer may have
// arrived: the server gets the timeout once more.
func (c *Conn) exchange(request []byte, answers int64, timeout time.Duration) error {
	c.tracker.Reset()
	deadline := time.Now().Add(timeout)
	c.SetDeadline(deadline)
	if _, err := c.Write(request); err != nil {
		return err
	}
	c.Socket().SetPolling(true) // a read that waits would leave the connection with memory for a record
	defer c.Socket().SetPolling(false)
	buffer := netconn.GetBuffer()
	defer netconn.PutBuffer(buffer)
	for extended := false; c.tracker.Ready() < answers; {
		n, err := c.Read(buffer[:])
		c.tracker.Scan(buffer[:n])
		if errors.Is(err, netconn.ErrWouldBlock) {
			err = c.Socket().WaitReadable()
		}
		switch {
		case c.tracker.Failed():
			return fmt.Errorf("%w: an error", errNotReady)
		case netconn.IsTimeout(err) && !extended && age.Of(deadline) >= suspendedTime:
			extended = true
			c.SetDeadline(time.Now().Add(timeout))
		case err != nil:
			return err
		case c.tracker.Lost():
			return errNotReady
		}
	}
	if !c.tracker.Idle() || c.tracker.Ready() != answers {
		return errNotReady
	}
	c.SetDeadline(time.Time{})
	return nil
}
