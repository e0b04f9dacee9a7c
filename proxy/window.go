package proxy

import (
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// keepHouse does what has to be done from time to time.
func (p *Proxy) keepHouse() {
	defer p.handlers.Done()
	ticker := time.NewTicker(netconn.UserTimeoutInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.checkWindows()
			retire(p.pool.expire(time.Now().Add(netconn.UserTimeoutInterval))) // before the next time
			p.logUntold(time.Now())
		case <-p.ctx.Done():
			return
		}
	}
}

// checkWindows updates the user timeout of every session's connection to the server.
func (p *Proxy) checkWindows() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, server := range p.sessions {
		if server != nil {
			server.Socket().UpdateUserTimeout()
		}
	}
}
