package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
)

// drain lets new clients in for --drain-min, and sessions end by themselves until
// --drain-max, or until ctx is done. The steps are in docs/running.md.
func (c *runCommand) drain(ctx context.Context, proxies []*proxy.Proxy, log *zap.Logger) {
	log.Info("draining; a second signal ends it at once", zap.Duration("at_least", c.DrainMin), zap.Duration("at_most", c.DrainMax))
	ctx, cancel := context.WithTimeout(ctx, c.DrainMax)
	defer cancel()
	select {
	case <-time.After(c.DrainMin):
	case <-ctx.Done():
	}
	var all sync.WaitGroup
	var cut atomic.Int64
	for _, p := range proxies {
		all.Go(func() { cut.Add(int64(p.Shutdown(ctx))) })
	}
	all.Wait()
	log.Info("stopped", zap.Int64("sessions_cut", cut.Load()), zap.Any("cancel_requests", cancels(proxies)))
}

// stuckTime is how long after its time a drain may still take.
const stuckTime = 5 * time.Second

// giveUpAfter ends a process that was told to end and does not, because something holds
// it up where nothing may.
func giveUpAfter(told context.Context, patience time.Duration, ended <-chan struct{}) {
	select {
	case <-told.Done():
	case <-ended:
		return
	}
	select {
	case <-time.After(patience):
		giveUp()
	case <-ended:
	}
}

// cancels is what became of all cancel requests.
func cancels(proxies []*proxy.Proxy) (all cancel.Stats) {
	for _, p := range proxies {
		c := p.Cancels()
		all.Delivered += c.Delivered
		all.Rejected += c.Rejected
		all.Repeated += c.Repeated
		all.Failed += c.Failed
	}
	return all
}

// notify tells systemd, if it wants to be told (Type=notify).
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be told how this process is", zap.String("state", state), zap.Error(err))
	}
}
