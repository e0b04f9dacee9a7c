package proxy

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

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

// passes returns how many of b's bytes go up; the others are to be the beginning of
// the next b. It reports whether the client has left a server that is at rest, and
// nothing goes up any more.
func (p *parting) passes(b []byte, server *upstream) (n int, left bool) {
	n = p.up.scan(b)
	if !p.up.leaving {
		return n, false
	}
	// A client that has read all that was said to it has asked for no more than that.
	// Bytes behind Terminate are nothing that a client says which takes leave.
	if n > 0 || len(b) > headerSize || p.up.asked != p.down.ready.Load() {
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

// stopped reports whether a read from the server has failed for the meeting alone, and
// if so, whether the server is at rest: if it is not, both directions go on.
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

// end lets the direction to the server go on alone.
func (p *parting) end() { close(p.atRest) }

// pumpUp is pump to a server that may be another client's next.
func (p *parting) pumpUp(server *upstream, client *leg) (f flow) {
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	for held := 0; ; {
		n, err := client.Read(buffer[held:])
		n += held
		passes, left := p.passes(buffer[:n], server)
		if left {
			f.kept = true
			return f
		}
		if err != nil {
			passes = n
		}
		if passes > 0 {
			if _, f.writeErr = server.Write(buffer[:passes]); f.writeErr != nil {
				return f
			}
			f.passed(buffer[:passes])
		}
		held = copy(buffer[:], buffer[passes:n])
		if err != nil {
			f.readErr = client.readError(err)
			return f
		}
	}
}

// pumpDown is pump from such a server.
func (p *parting) pumpDown(client *leg, server *upstream) (f flow) {
	defer p.end()
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	for {
		n, err := server.Read(buffer[:])
		if n > 0 {
			p.down.scan(buffer[:n]) // before the client can go by it
			if _, f.writeErr = client.Write(buffer[:n]); f.writeErr != nil {
				return f
			}
			f.passed(buffer[:n])
		}
		if err == nil {
			continue
		}
		switch stopped, rest := p.stopped(err, server); {
		case rest:
			f.kept = true
			return f
		case !stopped:
			f.readErr = server.readError(err)
			return f
		}
	}
}
