package proxy

import (
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// janitorInterval is how often the janitor runs. It is netconn's, whose timeouts need it.
const janitorInterval = netconn.UserTimeoutInterval

// janitor runs periodic maintenance until the proxy stops.
func (p *Proxy) janitor() {
	defer p.handlers.Done()
	ticker := time.NewTicker(janitorInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.sessions.updateUserTimeouts()
			p.pool.Expire(time.Now().Add(janitorInterval)) // before the next tick
			p.sampler.Report(p.logger, false)
		case <-p.ctx.Done():
			return
		}
	}
}
