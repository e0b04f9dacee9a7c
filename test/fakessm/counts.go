package fakessm

// Counts has what happened since Start. Fields named Open have current values.
type Counts struct {
	Started, Resumed, Terminated int   // requests to StartSession, ResumeSession and TerminateSession
	Upgrades                     int   // requests for a WebSocket, refused ones included
	TerminateFlags               int   // sessions that the client ended with a flag
	OpenSessions                 int   // sessions that have not ended
	OpenSockets                  int   // clients whose token was accepted
	Streams, OpenStreams         int   // connections to destinations
	ConnectErrors                int   // destinations that refused
	BytesUp, BytesDown           int64 // bytes of data messages, without repetitions
	Resent                       int   // messages that agents sent again
	OpenMessages                 int   // messages of agents that are not acknowledged
}

// Counts returns what has happened.
func (g *Gateway) Counts() Counts {
	open := g.all()
	messages := 0
	for _, s := range open {
		messages += s.unacknowledged()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := g.counts
	counts.OpenSessions, counts.OpenMessages = len(open), messages
	return counts
}

func (g *Gateway) count(add func(*Counts)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.counts)
}
