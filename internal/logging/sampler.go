package logging

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/internal/text"
)

// At most sampleLines lines of a kind are written within sampleTime. The others are counted.
const (
	sampleLines = 5
	sampleTime  = 10 * time.Second
)

// Sampler limits the lines about failures that many clients have alike. Unlike zap's own
// sampler it distinguishes lines by reason and SQLSTATE, too, and logs how many lines it has
// suppressed. Its zero value is ready to use; its methods may be called
// concurrently.
type Sampler struct {
	mu    sync.Mutex
	kinds map[Kind]*sample
}

// Kind is what lines have in common. A client must not be able to choose any part of it.
type Kind struct {
	Level    zapcore.Level
	Message  string
	Reason   string // may be empty
	SQLSTATE string // may be empty
}

// fields returns the fields of every line of the kind.
func (k Kind) fields() []zap.Field {
	var fields []zap.Field
	if k.Reason != "" {
		fields = append(fields, zap.String("reason", k.Reason))
	}
	if k.SQLSTATE != "" {
		fields = append(fields, zap.String("sqlstate", k.SQLSTATE))
	}
	return fields
}

// summary returns how many lines of the kind were suppressed, for the console.
func (k Kind) summary(suppressed int) string {
	summary := fmt.Sprintf("%s: %s more within %s", k.Message, text.Count(int64(suppressed)), text.Duration(sampleTime))
	if kind := strings.TrimSpace(k.Reason + " " + k.SQLSTATE); kind != "" {
		summary += " (" + kind + ")"
	}
	return summary
}

// sample is what became of the lines of a kind within sampleTime.
type sample struct {
	since               time.Time
	written, suppressed int
}

// Log writes a line with the fields of its kind by a call of log, unless there were too many of
// them. enabled is the core that decides about the level.
func (s *Sampler) Log(enabled zapcore.LevelEnabler, log func(zapcore.Level, string, ...zap.Field), k Kind, fields ...zap.Field) {
	if enabled.Enabled(k.Level) && s.allow(k) {
		log(k.Level, k.Message, append(k.fields(), fields...)...)
	}
}

func (s *Sampler) allow(k Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.kinds[k]
	if seen == nil {
		seen = &sample{since: time.Now()}
		if s.kinds == nil {
			s.kinds = make(map[Kind]*sample)
		}
		s.kinds[k] = seen
	}
	if seen.written == sampleLines {
		seen.suppressed++
		return false
	}
	seen.written++
	return true
}

// Report logs how many lines were suppressed, for each kind whose sampleTime has passed, or
// for all kinds if all is set.
func (s *Sampler) Report(log *zap.Logger, all bool) {
	for k, seen := range s.finished(all) {
		if seen.suppressed > 0 {
			fields := append(k.fields(), zap.Int("suppressed", seen.suppressed), zap.Float64("within_s", sampleTime.Seconds()),
				MessageForConsole(k.summary(seen.suppressed)))
			log.Log(k.Level, k.Message, fields...)
		}
	}
}

// finished removes the samples whose time has passed, or all of them.
func (s *Sampler) finished(all bool) map[Kind]*sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	finished := make(map[Kind]*sample)
	for k, seen := range s.kinds {
		if all || age.Of(seen.since) >= sampleTime {
			finished[k] = seen
			delete(s.kinds, k)
		}
	}
	return finished
}
