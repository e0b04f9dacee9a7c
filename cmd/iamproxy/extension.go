package main

import (
	"context"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/lambda"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/server"
	"github.com/iamproxy/iamproxy/internal/text"
)

// extension makes run serve as an extension of Lambda.
type extension struct {
	ending context.Context // done when Lambda ends the execution environment
	ready  func()          // called once clients can connect
}

// serve starts the function when clients can log in, and requests a shutdown when Lambda does. No
// request to STS is on the way: often there is no route to it.
func (e *extension) serve(ctx context.Context, s *server.Server) (stop func() bool) {
	s.Identities.Fetch(ctx)
	e.ready()
	return context.AfterFunc(e.ending, s.Shutdown)
}

// runExtension serves clients as an extension of Lambda, and returns the exit code.
func runExtension(ctx context.Context, e *lambda.Extension, stdout, stderr io.Writer) int {
	lambda.SetDefaults()
	err := e.Run(ctx, func(ending context.Context, ready func()) error {
		return execute(ctx, &commands{Run: runCommand{extension: &extension{ending, ready}}}, nil, streams{stdout, stderr})
	})
	if err == nil {
		return 0
	}
	var console *logging.Console
	if os.Getenv("IAMPROXY_LOG_FORMAT") == "console" {
		console = &logging.Console{}
	}
	log, flush := newExtensionLog(stderr, zap.ErrorLevel, console)
	defer flush()
	log.Error("the extension failed", zap.String("error", text.OneLine(err.Error())))
	return 1
}

// newExtensionLog returns the log of an extension. Lambda filters lines of JSON by level if they
// have a timestamp. A line without one is of level info.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
func newExtensionLog(out io.Writer, level zapcore.Level, console *logging.Console) (log *zap.Logger, flush func()) {
	if console != nil {
		return logging.New(out, level, console)
	}
	return logging.NewJSON(out, level, "timestamp")
}
