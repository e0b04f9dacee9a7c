package proxy

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Of lines for the same reason sampleLines are written in sampleTime; the others
	// are counted.
	sampleLines = 5
	sampleTime  = 10 * time.Second
)

// sampler keeps the log readable when many clients fail alike. Its zero value has
// seen nothing.
type sampler struct {
	mu   sync.Mutex
	seen map[sample]*sampled
}

// sample is what lines of a log have in common of which many may come at once. It
// has nothing in it that a client can choose.
type sample struct {
	level   zapcore.Level
	message string
	reason  string
}

// sampled is what became of them within sampleTime.
type sampled struct {
	since         time.Time
	lines, untold int
}

// tells reports whether another line is worth writing.
func (s *sampler) tells(what sample) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[what]
	if seen == nil {
		seen = &sampled{since: time.Now()}
		if s.seen == nil {
			s.seen = make(map[sample]*sampled)
		}
		s.seen[what] = seen
	}
	if seen.lines == sampleLines {
		seen.untold++
		return false
	}
	seen.lines++
	return true
}

// untold takes those out whose time is up by then.
func (s *sampler) untold(by time.Time) map[sample]sampled {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := make(map[sample]sampled)
	for what, seen := range s.seen {
		if by.Sub(seen.since) >= sampleTime {
			over[what] = *seen
			delete(s.seen, what)
		}
	}
	return over
}

// logSampled writes a line, unless many for the same reason were written just now. The
// logger is made only for that.
func (p *Proxy) logSampled(log func() *zap.Logger, level zapcore.Level, message, reason string, fields ...zap.Field) {
	if p.log().Core().Enabled(level) && p.sampler.tells(sample{level, message, reason}) {
		log().Log(level, message, fields...)
	}
}

func (s *session) logSampled(level zapcore.Level, message, reason string, fields ...zap.Field) {
	s.proxy.logSampled(s.log, level, message, reason, fields...)
}

// logSuppressed says how many lines were not written, of those whose time is up by then.
func (p *Proxy) logSuppressed(by time.Time) {
	for what, seen := range p.sampler.untold(by) {
		if seen.untold > 0 {
			p.log().Log(what.level, what.message, zap.String("endpoint", p.Upstream.Endpoint), zap.String("reason", what.reason),
				zap.Int("suppressed", seen.untold), zap.Float64("within_s", sampleTime.Seconds()))
		}
	}
}
