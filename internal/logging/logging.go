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
	writer := newWriter(out, func(lines int) {
		log.Warn("log lines were lost: the output was not read, or had no space", zap.Int("lines", lines))
	})
	if console != nil {
		log = zap.New(&consoleCore{LevelEnabler: level, out: writer, format: *console})
		return log, writer.close
	}
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), writer, level))
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
