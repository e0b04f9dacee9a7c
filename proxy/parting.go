package proxy

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// longAgo is a deadline that stops a read at once.
var longAgo = time.Unix(1, 0)

// parting is where the two directions of a session meet when the client says
// Terminate: the server need not hear that if it is at rest, and can be another
// client's. Both stop, so that it can be told for sure.
//
// Where the server is not at rest they go on as if there had been no meeting.
type parting struct {
	up   clientFraming
	down *serverFraming

	stopping atomic.Bool
	atRest   chan bool // what the direction from the server finds, once; closed when that has ended
	why      string    // the server cannot be another client's, once both directions have ended
}

// part returns nil for a connection that cannot be kept.
func part(server *upstream) *parting {
	if server.spare == nil {
		return nil
	}
	framing := &server.spare.framing
	framing.ready.Store(0)
	return &parting{down: framing, atRest: make(chan bool, 1), why: "the client did not terminate"}
}

// filterUp holds a Terminate back, or the beginning of one. It is done once the client
// has left a server that is at rest. What comes behind its end goes up with it.
func (p *parting) filterUp(server *upstream) filter {
	return func(b []byte, end bool) (passes int, done bool) {
		passes = p.up.scan(b)
		switch {
		case p.up.leaving: // its end may have come with it
		case end:
			return len(b), false
		default:
			return passes, false
		}
		// A client that has read all that was said to it has asked for no more than that.
		// Bytes behind Terminate are nothing that a client says which takes leave.
		if passes > 0 || len(b) > headerSize || p.up.asked != p.down.ready.Load() {
			p.why = "requests were in flight"
		} else {
			p.stopping.Store(true)
			server.SetReadDeadline(longAgo)
			if <-p.atRest {
				return 0, true
			}
		}
		p.up.lost = true // all that comes now goes up
		return len(b), false
	}
}

// filterDown lets all pass, and takes note of it before the client can go by it.
func (p *parting) filterDown(b []byte, _ bool) (passes int, done bool) {
	p.down.scan(b)
	return len(b), false
}

// stopped reports whether a read from the server has failed with err for the meeting
// alone, and if so, whether the server is at rest: if it is not, both directions go on.
func (p *parting) stopped(err error, server *upstream) (stopped, rest bool) {
	if !p.stopping.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, false
	}
	server.SetReadDeadline(time.Time{})
	p.stopping.Store(false)
	p.why = unrest(&p.up, p.down)
	rest = p.why == ""
	p.atRest <- rest
	return true, rest
}

// pumpDown is pump from a server that may be another client's next.
func (p *parting) pumpDown(client *leg, server *upstream) (f flow) {
	defer close(p.atRest) // the other direction goes on alone
	for {
		f.pump(client, server.leg, p.filterDown)
		stopped, rest := p.stopped(f.readErr, server)
		if !stopped {
			return f
		}
		f.readErr = nil
		if rest {
			f.kept = true
			return f
		}
	}
}
