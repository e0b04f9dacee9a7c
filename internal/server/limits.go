package server

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/proxy"
)

// budget returns the assignment of file descriptors.
func (s *Server) budget() limits.Budget {
	return limits.Allocate(limits.OpenFiles(), len(s.Endpoints), s.poolSize())
}

// poolSize returns the number of idle connections requested by all endpoints.
func (s *Server) poolSize() (n int) {
	for _, e := range s.Endpoints {
		n += e.PoolSize()
	}
	return n
}

func openFilesHint() string {
	return fmt.Sprintf("The process is limited to %d open files. Raise the limit (ulimit -n, LimitNOFILE=, ulimits: nofile).", limits.OpenFiles())
}

// sessionLimit returns the limit of --max-sessions or of file descriptors, whichever is lower.
// It is nil if neither limits the sessions; possible is 0 if descriptors do not.
func (s *Server) sessionLimit(possible int) *proxy.ConnLimit {
	switch {
	case possible > 0 && (s.MaxSessions == 0 || possible < s.MaxSessions):
		hint := openFilesHint()
		if s.MaxSessions > 0 {
			s.Log.Warn("not enough file descriptors for --max-sessions",
				zap.Int("max_sessions", s.MaxSessions), zap.Int("possible", possible), zap.String("hint", hint))
		}
		return &proxy.ConnLimit{Max: possible, Hint: hint}
	case s.MaxSessions > 0:
		return &proxy.ConnLimit{Max: s.MaxSessions, Hint: "Close sessions that are not in use, or raise --max-sessions."}
	}
	return nil
}
