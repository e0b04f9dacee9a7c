package logging

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
)

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		log := zap.New(core)
		var s Sampler
		write := func(level zap.AtomicLevel, reason string) {
			s.Log(core, log.Log, Kind{level.Level(), "connection rejected", reason, "08001"})
		}
		warn, debug := zap.NewAtomicLevelAt(zap.WarnLevel), zap.NewAtomicLevelAt(zap.DebugLevel)
		for range 100 {
			write(warn, "dial_refused")
			write(warn, "token_refused")
			write(debug, "token_refused")
		}
		if n := lines.Len(); n != 2*sampleLines {
			t.Errorf("%d lines", n)
		}
		if s.Report(log, false); lines.Len() != 2*sampleLines {
			t.Error("reported before the time has passed")
		}
		lines.TakeAll()
		time.Sleep(sampleTime)
		s.Report(log, false)
		reported := lines.TakeAll()
		for _, line := range reported {
			if n := line.ContextMap()["suppressed"]; line.Message != "connection rejected" || n != int64(100-sampleLines) || line.ContextMap()["sqlstate"] != "08001" || len(line.ContextMap()) != 4 {
				t.Errorf("line %q, %v", line.Message, line.ContextMap())
			}
		}
		if len(reported) != 2 {
			t.Errorf("%d kinds reported", len(reported))
		}
		for range 1 + sampleLines {
			write(warn, "dial_refused")
		}
		if s.Report(log, true); lines.Len() != sampleLines+1 {
			t.Errorf("%d lines at the end", lines.Len())
		}
	})
}

// The time of a sample includes a suspension of the machine.
func TestSamplerAfterSuspension(t *testing.T) {
	var s Sampler
	k := Kind{Message: "failed"}
	for range sampleLines {
		s.allow(k)
	}
	if s.allow(k) {
		t.Error("not suppressed")
	}
	agetest.Suspend(&s.kinds[k].since, sampleTime)
	if s.Report(zap.NewNop(), false); !s.allow(k) {
		t.Error("suppressed after the suspension")
	}
}
