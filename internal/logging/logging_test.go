package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestNew(t *testing.T) {
	for _, test := range []struct {
		console *Console
		prefix  string
	}{{nil, "{"}, {&Console{}, time.Now().Format("15:")}} {
		var out bytes.Buffer
		log, flush := New(&out, zapcore.WarnLevel, test.console)
		log.Info("below the level")
		Print(log, zapcore.InfoLevel, "below the level, too")
		log.Warn("written")
		flush()
		if text := out.String(); !strings.HasPrefix(text, test.prefix) || !strings.Contains(text, "written") || strings.Contains(text, "below") {
			t.Errorf("console %v: %s", test.console, text)
		}
	}
}

var clock = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d`)

// AWS Lambda ignores the level of lines whose time is not of RFC 3339.
func TestTimeZone(t *testing.T) {
	utc := time.Local
	t.Cleanup(func() { time.Local = utc })
	time.Local = time.FixedZone("JST", 9*60*60)
	var out bytes.Buffer
	log, flush := NewJSON(&out, zap.InfoLevel, "timestamp")
	log.Info("started")
	flush()
	var line struct{ Timestamp time.Time }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || time.Since(line.Timestamp) > time.Hour {
		t.Errorf("%v: %s", err, &out)
	}
}

func TestConsole(t *testing.T) {
	for name, test := range map[string]struct {
		write func(log *zap.Logger)
		want  string
	}{
		"text":       {func(log *zap.Logger) { log.Info("m", zap.Int("n", 1), TextForConsole("a\n  b\x1b[2J")) }, "a\n  b [2J\n"},
		"empty text": {func(log *zap.Logger) { log.Info("m", TextForConsole("")) }, ""},
		"print":      {func(log *zap.Logger) { Print(log, zapcore.WarnLevel, "Ready") }, "Ready\n"},
		"message":    {func(log *zap.Logger) { log.Warn("m", zap.Int("n", 1), MessageForConsole("told\x1b\n")) }, "TIME  warn   told  [127.0.0.1:5433]\n"},
		"event": {func(log *zap.Logger) {
			log.Info("m", ForConsole(func() Event { return Event{"app\x1b@mydb", Connected, []string{"psql", "", "2\n ms"}} }))
		}, "TIME  app @mydb             connected     psql, 2 ms  [127.0.0.1:5433]\n"},
		"suppressed": {func(log *zap.Logger) {
			var s Sampler
			for range sampleLines + 1200 {
				s.Log(zapcore.WarnLevel, log.Log, Kind{zapcore.WarnLevel, "connection rejected", "dial_refused", "57P03"}, TextForConsole(""))
			}
			s.Report(log, true)
		}, "TIME  warn   connection rejected: 1,200 more within 10 s (dial_refused 57P03)  [127.0.0.1:5433]\n"},
		"other": {func(log *zap.Logger) {
			log.With(zap.String("via", "")).Error("could not\tlisten", zap.Error(errors.New("no \x1bport")), zap.Float64("retry_in_s", 0.5),
				zap.String("hint", "Use another."), zap.String("name", "a b"), zap.Strings("none", nil), zap.Any("map", map[string]any{"b": 2, "a": 1}))
		}, `TIME  error  could not listen: no port listen=127.0.0.1:5433 retry_in_s=0.5 name="a b" map.a=1 map.b=2  -> Use another.` + "\n"},
	} {
		var out bytes.Buffer
		log, flush := New(&out, zapcore.InfoLevel, &Console{Listeners: true})
		if name != "print" {
			log = log.With(zap.String("listen", "127.0.0.1:5433"))
		}
		test.write(log)
		flush()
		if got := clock.ReplaceAllString(out.String(), "TIME"); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// JSON contains no field for the console.
func TestFieldsForConsoleInJSON(t *testing.T) {
	var out bytes.Buffer
	log, flush := New(&out, zapcore.InfoLevel, nil)
	log.Info("m", TextForConsole("x"), MessageForConsole("x"), ForConsole(func() Event { panic("called") }))
	Print(log, zapcore.InfoLevel, "x")
	flush()
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, `"msg":"m"}`+"\n") {
		t.Errorf("got %s", got)
	}
}

func TestConsoleColors(t *testing.T) {
	var out bytes.Buffer
	log, flush := New(&out, zapcore.InfoLevel, &Console{Colors: true})
	log.Warn("m", ForConsole(func() Event { return Event{Subject: "app", Action: Refused} }))
	flush()
	if !strings.Contains(out.String(), "\x1b[31mrefused") {
		t.Errorf("got %q", out.String())
	}
}
