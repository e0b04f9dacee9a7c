package proxy

import "time"

const (
	// userTimeout is how long bytes may go unacknowledged until the server has
	// vanished.
	userTimeout = 20 * time.Second
	// windowEvery must be well within userTimeout.
	windowEvery = 5 * time.Second
)

// watchWindows keeps the user timeout (tcp(7)) from ending sessions with a
// server that is alive and only does not read for a while, as one that waits for
// a lock in the middle of a COPY: Linux counts the time in which the server's
// window is closed, answered probes or not (tcp_probe_timer in its
// net/ipv4/tcp_timer.c). For that time the timeout is lifted.
func (p *Proxy) watchWindows() {
	defer p.handlers.Done()
	ticker := time.NewTicker(windowEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.checkWindows()
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *Proxy) checkWindows() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, server := range p.sessions {
		if server != nil {
			adjustUserTimeout(server.tcp)
		}
	}
}
