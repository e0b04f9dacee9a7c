// Package signals decides what the signals of the system do to a running iamproxy.
package signals

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"go.uber.org/zap"
)

// Handle requests a shutdown at the first termination signal, and ends the process at the second,
// until ctx is done. If something else requested the shutdown before, an interrupt counts as the
// second signal, since the console asks for it. SIGTERM does not: Kubernetes sends it after a
// preStop hook that requested the shutdown.
func Handle(ctx, draining context.Context, received <-chan os.Signal, shutdown, end func()) {
	for first := true; ; first = false {
		select {
		case termination := <-received:
			if !first || termination == os.Interrupt && draining.Err() != nil {
				end()
				return
			}
			shutdown()
		case <-ctx.Done():
			return
		}
	}
}

// Others are the signals, besides those that request a shutdown, whose default action ends the
// process.
type Others struct{ received chan os.Signal }

// NotifyOthers takes over the signals until the process exits. Those that the parent ignores stay
// ignored, such as SIGHUP under nohup.
func NotifyOthers() Others {
	o := Others{make(chan os.Signal, 1)}
	others := slices.DeleteFunc(append([]os.Signal{syscall.SIGHUP}, userSignals...), signal.Ignored)
	signal.Notify(o.received, append(others, syscall.SIGPIPE)...)
	return o
}

// Handle keeps sessions open when a signal arrives, until ctx is done. SIGHUP of a process with a
// terminal means that the terminal is gone, and requests a shutdown. It is never the second
// signal: the shell and the kernel may both send it.
func (o Others) Handle(ctx context.Context, log *zap.Logger, shutdown func()) {
	attached := hasTerminal()
	for {
		select {
		case received := <-o.received:
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
