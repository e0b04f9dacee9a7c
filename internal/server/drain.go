package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
)

// Drain accepts new clients for --drain-min, and waits for sessions to end until --drain-max or
// until ctx is done. The steps are documented in docs/running.md.
func (s *Server) Drain(ctx context.Context) {
	open, sessions := s.sessions()
	s.Log.Info("draining; a second signal closes open sessions",
		zap.Float64("drain_min_s", s.DrainMin.Seconds()), zap.Float64("drain_max_s", s.DrainMax.Seconds()),
		zap.Int("sessions", open), logging.OptionalStrings("users", console.Users(sessions)),
		logging.TextForConsole(console.DrainText(open, sessions, s.DrainMin, s.DrainMax)))
	ctx, stop := context.WithTimeout(ctx, s.DrainMax)
	defer stop()
	select {
	case <-time.After(s.DrainMin):
	case <-ctx.Done():
	}
	var draining sync.WaitGroup
	var cut atomic.Int64
	for _, p := range s.proxies {
		draining.Go(func() { cut.Add(int64(p.Shutdown(ctx))) })
	}
	draining.Wait()
	stopped := "stopped"
	if n := int(cut.Load()); n > 0 {
		stopped += "; closed " + text.Plural(n, "session") + " still open"
	}
	s.Log.Info("stopped", zap.Int64("sessions_cut", cut.Load()), zap.Any("cancel_requests", s.cancelCounts()), logging.TextForConsole(stopped))
}

// sessions returns the number of sessions of all endpoints, those that log in included, and the
// open ones.
func (s *Server) sessions() (number int, open []proxy.SessionInfo) {
	for _, p := range s.proxies {
		number += p.Counts().Sessions
		open = append(open, p.Sessions()...)
	}
	return number, open
}

// cancelCounts returns the counts of cancel requests of all endpoints.
func (s *Server) cancelCounts() (sum cancel.Stats) {
	for _, p := range s.proxies {
		c := p.Counts().Cancels
		sum.Delivered += c.Delivered
		sum.Rejected += c.Rejected
		sum.Repeated += c.Repeated
		sum.Failed += c.Failed
	}
	return sum
}
