// Package logging creates the log of the process.
package logging

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a log that writes lines of JSON to out, or lines for a terminal if console is
// set. Writing never blocks. The returned function writes the lines that are still queued.
func New(out io.Writer, level zapcore.Level, console bool) (log *zap.Logger, flush func()) {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if console {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	writer := newWriter(out, func(lines int) {
		log.Warn("lines of the log were lost: nobody read them, or there was no room on the disk", zap.Int("lines", lines))
	})
	log = zap.New(zapcore.NewCore(encoder, writer, level))
	return log, writer.close
}

// OptionalString returns a field that is absent if the value is empty.
func OptionalString(key, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(key, value)
}
