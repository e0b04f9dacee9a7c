package proxy

import (
	"net"
	"time"
)

const (
	// userTimeout is how long the server may leave bytes or keep-alives
	// unanswered until it has vanished.
	userTimeout = 20 * time.Second
	// windowEvery must be well within userTimeout.
	windowEvery = 5 * time.Second
)

// keepAlive notices a server that vanished from an idle session, after 20 s on
// Linux, where the user timeout decides, and 25 s elsewhere.
var keepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     10 * time.Second,
	Interval: 5 * time.Second,
	Count:    3,
}

// keepHouse does what has to be done from time to time.
func (p *Proxy) keepHouse() {
	defer p.handlers.Done()
	ticker := time.NewTicker(windowEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.checkWindows()
			retire(p.pool.expire(time.Now().Add(windowEvery))) // before the next time
			p.logUntold(time.Now())
		case <-p.ctx.Done():
			return
		}
	}
}

// checkWindows keeps the user timeout (tcp(7)) from ending sessions with a
// server that is alive and only does not read for a while, as one that waits for
// a lock in the middle of a COPY: Linux counts the time in which the server's
// window is closed, answered probes or not (tcp_probe_timer in its
// net/ipv4/tcp_timer.c). While the probes are answered, the timeout is lifted.
//
// The price: a server that vanishes after it has not read for long is noticed
// only when two probes are without an answer, which Linux sends ever more rarely:
// up to 2 minutes apart.
func (p *Proxy) checkWindows() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, server := range p.sessions {
		if server != nil {
			server.socket.checkWindow()
		}
	}
}
