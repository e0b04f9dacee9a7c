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
	held []byte // said by the client, and not passed on: the beginning of a Terminate, as may be
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

// end lets the direction to the server go on alone.
func (p *parting) end() { close(p.atRest) }

// pumpUp is pump to a server that may be another client's next.
func (p *parting) pumpUp(server *upstream, client *leg) (f flow) {
	client.socket.setAwaited(true)
	defer client.socket.setAwaited(false)
	for p.moveUp(&f, server, client) {
		if err := client.socket.await(); err != nil {
			f.readErr = client.readError(err)
			break
		}
	}
	return f
}

// moveUp is move to such a server.
func (p *parting) moveUp(f *flow, server *upstream, client *leg) (more bool) {
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	held := copy(buffer[:], p.held)
	for {
		n, err := client.Read(buffer[held:])
		n += held
		notYet := errors.Is(err, errNotYet)
		passes := n // with the client's end all that is held goes up
		if err == nil || notYet {
			passes, f.kept = p.passes(buffer[:n], server)
		}
		if f.kept {
			return false
		}
		if passes > 0 {
			if _, f.writeErr = server.Write(buffer[:passes]); f.writeErr != nil {
				return false
			}
			f.passed(buffer[:passes])
		}
		held = copy(buffer[:], buffer[passes:n])
		switch {
		case notYet:
			p.held = append(p.held[:0], buffer[:held]...)
			return true
		case err != nil:
			f.readErr = client.readError(err)
			return false
		}
	}
}

// pumpDown is pump from such a server.
func (p *parting) pumpDown(client *leg, server *upstream) (f flow) {
	defer p.end()
	server.socket.setAwaited(true)
	defer server.socket.setAwaited(false)
	for {
		if p.moveDown(&f, client, server) {
			if err := server.socket.await(); err != nil {
				f.readErr = server.readError(err)
			}
		}
		stopped := false
		switch stopped, f.kept = p.stopped(f.readErr, server); {
		case f.kept:
			f.readErr = nil
			return f
		case stopped:
			f.readErr = nil
		case f.readErr != nil || f.writeErr != nil:
			return f
		}
	}
}

// moveDown is move from such a server.
func (p *parting) moveDown(f *flow, client *leg, server *upstream) (more bool) {
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	for {
		n, err := server.Read(buffer[:])
		if n > 0 {
			p.down.scan(buffer[:n]) // before the client can go by it
			if _, f.writeErr = client.Write(buffer[:n]); f.writeErr != nil {
				return false
			}
			f.passed(buffer[:n])
		}
		switch {
		case errors.Is(err, errNotYet):
			return true
		case err != nil:
			f.readErr = server.readError(err)
			return false
		}
	}
}
