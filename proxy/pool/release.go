package pool

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/relay"
)

// Release synchronizes both copy directions when the client sends Terminate. If the server
// is idle, the message is not forwarded, and both directions stop: the connection can be
// another client's. If not, both go on as if nothing had happened.
type Release struct {
	conn   *Conn
	server *netconn.Conn // below conn
	client pgwire.FrontendTracker

	stopping atomic.Bool
	idle     chan bool // what the direction from the server finds, once; closed at its end
	reason   string    // why the connection cannot be reused
}

// NewRelease returns the Release of a session that begins.
func (c *Conn) NewRelease() *Release {
	c.tracker.Reset()
	return &Release{conn: c, server: c.Conn.Conn, idle: make(chan bool, 1), reason: "the client did not terminate, or with requests in flight"}
}

// Reason returns why the connection cannot be reused; empty if it can. It must not be
// called before both directions have ended.
func (r *Release) Reason() string { return r.reason }

// CopyUp copies from the client. The direction is stopped by a Terminate that ends the
// session and leaves the connection to the next one.
func (r *Release) CopyUp(d *relay.Direction, client *netconn.Conn) {
	d.Copy(r.server, client, r.isCleanTerminate)
}

// isCleanTerminate reports whether b is a Terminate sent while the server is idle.
func (r *Release) isCleanTerminate(b []byte) bool {
	if !r.client.Scan(b) {
		return false
	}
	// A client that has read all answers cannot have sent more requests than that.
	if r.client.Requests() == r.conn.tracker.Ready() {
		r.stopping.Store(true)
		r.server.SetReadDeadline(netconn.LongAgo)
		if <-r.idle {
			return true
		}
	}
	r.client.Stop()
	return false
}

// CopyDown copies to the client. The direction is stopped when CopyUp's is.
func (r *Release) CopyDown(d *relay.Direction, client *netconn.Conn) {
	defer close(r.idle) // the other direction goes on alone
	for {
		d.Copy(client, r.server, r.track)
		interrupted, idle := r.interrupted(d.ReadErr)
		if !interrupted {
			return
		}
		d.ReadErr = nil
		if idle {
			d.Stopped = true
			return
		}
	}
}

// track follows the server's messages before the client can act on them.
func (r *Release) track(b []byte) (stop bool) {
	r.conn.tracker.Scan(b)
	return false
}

// interrupted reports whether a read from the server has failed only because the client has
// sent Terminate, and then whether the server is idle.
func (r *Release) interrupted(err error) (interrupted, idle bool) {
	if !r.stopping.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, false
	}
	r.server.SetReadDeadline(time.Time{})
	r.stopping.Store(false)
	r.reason = pgwire.BusyReason(&r.client, r.conn.tracker)
	idle = r.reason == ""
	r.idle <- idle
	return true, idle
}
