package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"go.uber.org/zap"
)

// otherSignals returns the signals, besides those that request a shutdown, whose default action
// ends the process. Those that the parent ignores stay ignored, such as SIGHUP under nohup.
func otherSignals() []os.Signal {
	others := slices.DeleteFunc(append([]os.Signal{syscall.SIGHUP}, userSignals...), signal.Ignored)
	return append(others, syscall.SIGPIPE)
}

// handleOthers keeps sessions open when a signal of otherSignals arrives. SIGHUP of a process
// with a terminal means that the terminal is gone, and requests a shutdown. It is never the
// second signal: the shell and the kernel may both send it.
func handleOthers(ctx context.Context, signals <-chan os.Signal, log *zap.Logger, shutdown func()) {
	attached := hasTerminal()
	for {
		select {
		case received := <-signals:
			switch {
			case received == syscall.SIGPIPE: // sessions outlive the reader of the log
			case received == syscall.SIGHUP && attached:
				shutdown()
			default:
				log.Info("signal ignored; certificates and AWS credentials are reloaded when they change", zap.Stringer("signal", received))
			}
		case <-ctx.Done():
			return
		}
	}
}

// hasTerminal reports whether the process has a controlling terminal.
func hasTerminal() bool {
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	terminal.Close()
	return true
}
