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

// Handle takes one step for each signal, until ctx is done.
func Handle(ctx context.Context, received <-chan os.Signal, steps ...func()) {
	for _, step := range steps {
		select {
		case <-received:
			step()
		case <-ctx.Done():
			return
		}
	}
}

// Others are the signals, besides those that request a shutdown, whose default action ends the
// process.
type Others struct{ received chan os.Signal }

// NotifyOthers takes over the signals. Those that the parent ignores stay ignored, such as
// SIGHUP under nohup.
func NotifyOthers() Others {
	o := Others{make(chan os.Signal, 1)}
	others := slices.DeleteFunc(append([]os.Signal{syscall.SIGHUP}, userSignals...), signal.Ignored)
	signal.Notify(o.received, append(others, syscall.SIGPIPE)...)
	return o
}

// Stop restores the default actions.
func (o Others) Stop() { signal.Stop(o.received) }

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
