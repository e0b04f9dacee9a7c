package proxy

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/iamproxy/iamproxy/proxy/pgwire"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// parting is where the two directions of a session meet when the client says
// Terminate: the server need not hear that if it is at rest, and can be another
// client's. Both stop, so that it can be told for sure.
//
// Where the server is not at rest they go on as if there had been no meeting.
type parting struct {
	up   pgwire.FrontendTracker
	down *pgwire.BackendTracker

	stopping atomic.Bool
	atRest   chan bool // what the direction from the server finds, once; closed when that has ended
	why      string    // the server cannot be another client's, once both directions have ended
}

// part returns nil for a connection that cannot be kept.
func part(server *upstream) *parting {
	if server.spare == nil {
		return nil
	}
	framing := server.spare.framing
	framing.Reset()
	return &parting{down: framing, atRest: make(chan bool, 1), why: "the client did not terminate, or with requests in flight"}
}

// leaves has a look at what is to go up, and reports whether that is the Terminate of
// a client that leaves a server at rest. Then it need not go up.
func (p *parting) leaves(b []byte, server *upstream) bool {
	if !p.up.Scan(b) {
		return false
	}
	// A client that has read all that was said to it has asked for no more than that.
	if p.up.Requests() == p.down.Ready() {
		p.stopping.Store(true)
		server.SetReadDeadline(netconn.LongAgo)
		if <-p.atRest {
			return true
		}
	}
	p.up.Stop()
	return false
}

// stopped reports whether a read from the server has failed with err for the meeting
// alone, and if so, whether the server is at rest: if it is not, both directions go on.
func (p *parting) stopped(err error, server *upstream) (stopped, rest bool) {
	if !p.stopping.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, false
	}
	server.SetReadDeadline(time.Time{})
	p.stopping.Store(false)
	p.why = pgwire.BusyReason(&p.up, p.down)
	rest = p.why == ""
	p.atRest <- rest
	return true, rest
}

// pumpDown is pump from a server that may be another client's next.
func (p *parting) pumpDown(f *flow, client *netconn.Conn, server *upstream) {
	defer close(p.atRest) // the other direction goes on alone
	for {
		f.pump(client, server.Conn, func(b []byte) bool { p.down.Scan(b); return false }) // before the client can go by it
		stopped, rest := p.stopped(f.readErr, server)
		if !stopped {
			return
		}
		f.readErr = nil
		if rest {
			f.kept = true
			return
		}
	}
}
