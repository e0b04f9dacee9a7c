// Package logging creates the log of the process.
package logging

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a log that writes lines of JSON to out, or lines for people if console is not
// nil. Writing never blocks. The returned function writes the lines that are still queued.
func New(out io.Writer, level zapcore.Level, console *Console) (log *zap.Logger, flush func()) {
	if console == nil {
		return NewJSON(out, level, "ts")
	}
	return newLog(out, func(writer zapcore.WriteSyncer) zapcore.Core {
		return &consoleCore{LevelEnabler: level, out: writer, format: *console}
	})
}

// NewJSON returns a log that writes lines of JSON as New does, with timeKey for the key of the
// time.
func NewJSON(out io.Writer, level zapcore.Level, timeKey string) (log *zap.Logger, flush func()) {
	config := zap.NewProductionEncoderConfig()
	config.TimeKey = timeKey
	config.EncodeTime = zapcore.TimeEncoderOfLayout(timeLayout)
	config.EncodeDuration = zapcore.StringDurationEncoder
	return newLog(out, func(writer zapcore.WriteSyncer) zapcore.Core {
		return zapcore.NewCore(zapcore.NewJSONEncoder(config), writer, level)
	})
}

// timeLayout is RFC 3339 with milliseconds. The offset of zapcore.ISO8601TimeEncoder has no colon.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

func newLog(out io.Writer, core func(zapcore.WriteSyncer) zapcore.Core) (log *zap.Logger, flush func()) {
	writer := newWriter(out, func(lines int) {
		log.Warn("log lines were lost: the output was not read, or had no space", zap.Int("lines", lines))
	})
	log = zap.New(core(writer))
	return log, writer.close
}

// OptionalString returns a field that is absent if the value is empty.
func OptionalString(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}

// OptionalStrings returns a field that is absent if there are no values.
func OptionalStrings(key string, values []string) zap.Field {
	if len(values) == 0 {
		return zap.Skip()
	}
	return zap.Strings(key, values)
}
