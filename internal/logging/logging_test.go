package logging

import (
	"bytes"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

func TestNew(t *testing.T) {
	for console, prefix := range map[bool]string{false: "{", true: "20"} {
		var out bytes.Buffer
		log, flush := New(&out, zapcore.WarnLevel, console)
		log.Info("below the level")
		log.Warn("written")
		flush()
		if text := out.String(); !strings.HasPrefix(text, prefix) || !strings.Contains(text, "written") || strings.Contains(text, "below") {
			t.Errorf("console %v: %s", console, text)
		}
	}
}
