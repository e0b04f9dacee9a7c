package proxy

import (
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// janitor runs periodic maintenance until the proxy stops.
func (p *Proxy) janitor() {
	defer p.handlers.Done()
	ticker := time.NewTicker(netconn.UserTimeoutInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.sessions.updateUserTimeouts()
			p.pool.Expire(time.Now().Add(netconn.UserTimeoutInterval)) // before the next tick
			p.sampler.Report(p.log(), false)
		case <-p.ctx.Done():
			return
		}
	}
}
