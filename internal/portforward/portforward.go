// Package portforward runs a program that forwards a local port, such as ssh, kubectl or the AWS
// CLI, and restarts it when it exits.
package portforward

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// A program is restarted after minDelay. The delay doubles with each run that is
	// shorter than maxDelay.
	minDelay, maxDelay = 500 * time.Millisecond, 10 * time.Second
	// dialInterval is the time between two attempts of Dial.
	dialInterval = 50 * time.Millisecond
	// sampleLines limits the lines of output that are logged in sampleTime.
	sampleLines, sampleTime = 20, time.Minute
)

// Port is replaced with the local port in the arguments of a Forward.
const Port = "{port}"

// Forward is a program that listens on a local port and is restarted when it exits. Each
// run gets a free port of the loopback interface. Args is required. The fields must not be
// changed after Start.
type Forward struct {
	// Name identifies the forward in the log, which does not contain Args.
	Name string
	// Args is the path of the program and its arguments.
	Args []string
	// Env is the environment of the program. If nil, it is that of this process.
	Env []string
	// Hint is the Advice of an error of Dial. It may be empty.
	Hint string
	// Log may be nil.
	Log *zap.Logger

	log     *zap.Logger
	cancel  context.CancelFunc
	stopped chan struct{}

	mu  sync.Mutex
	run *run // the current one, or the last between two runs
}

// Start starts the program and returns. It must be called once, before the other methods.
func (f *Forward) Start() {
	f.log = zap.NewNop()
	if f.Log != nil {
		f.log = f.Log.With(zap.String("via", f.Name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.stopped = cancel, make(chan struct{})
	outputLog := f.log.WithOptions(zap.WrapCore(sample))
	f.startRun(outputLog)
	go f.supervise(ctx, outputLog)
}

// sample limits the lines of output in the log.
func sample(core zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(core, sampleTime, sampleLines, 0)
}

// Stop ends the program and its descendants. It returns when they have exited, or after a
// few seconds.
func (f *Forward) Stop() {
	f.cancel()
	<-f.stopped
}

// supervise restarts the program until ctx is done.
func (f *Forward) supervise(ctx context.Context, outputLog *zap.Logger) {
	defer close(f.stopped)
	for delay := minDelay; ; delay = min(2*delay, maxDelay) {
		began := time.Now()
		r := f.current()
		err := r.wait(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxDelay {
			delay = minDelay
		}
		f.log.Warn("port forward exited, restarting", zap.Error(err), zap.Float64("restart_in_s", delay.Seconds()),
			logging.MessageForConsole(fmt.Sprintf("port forward exited (%v), restarting in %s", err, text.Duration(delay))))
		for wait := delay; ; wait = maxDelay {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			if !r.isInBackground() {
				break
			}
		}
		f.startRun(outputLog)
	}
}

// startRun starts the program.
func (f *Forward) startRun(outputLog *zap.Logger) {
	r := newRun(f.Args, f.Env, outputLog)
	f.mu.Lock()
	f.run = r
	f.mu.Unlock()
	if r.process != nil {
		f.log.Info("port forward started", zap.String("address", r.address), logging.MessageForConsole("port forward started"))
	}
}

func (f *Forward) current() *run {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run
}

// Dial connects to the local port, and ignores the address. While the port refuses
// connections, Dial retries until ctx is done. The error is an *Error if the program has
// exited or ctx is done. Dial makes no test connections, since the program would forward
// them.
func (f *Forward) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	r, began := f.current(), time.Now()
	dialer := net.Dialer{KeepAlive: -1} // a loopback peer cannot become unreachable
	for {
		select {
		case <-r.ended:
			return nil, &Error{Text: "port forward exited: " + r.err.Error(), Hint: f.Hint}
		default:
		}
		if conn, err := dialer.DialContext(ctx, network, r.address); err == nil {
			return conn, nil
		}
		select {
		case <-time.After(dialInterval):
		case <-r.ended:
		case <-ctx.Done():
			return nil, f.timeoutError(ctx, time.Since(began))
		}
	}
}

// timeoutError returns the error of Dial if ctx is done.
func (f *Forward) timeoutError(ctx context.Context, waited time.Duration) error {
	output := cmp.Or(f.LastOutput(), "none")
	return &Error{
		Text: fmt.Sprintf("port forward did not answer within %s; its last output: %s", waited.Round(100*time.Millisecond), output),
		Hint: f.Hint,
		Err:  ctx.Err(),
	}
}

// LastOutput returns the last line of the program's output, or "" if there is none.
func (f *Forward) LastOutput() string { return f.current().output.lastLine() }

// Error reports why there is no connection through a port forward.
type Error struct {
	Text string // one line that ends with the last output of the program
	Hint string // may be empty
	Err  error  // the error of the context if that was done, else nil
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Err }

// Advice returns the hint.
func (e *Error) Advice() string { return e.Hint }

// replacePort returns args with Port replaced.
func replacePort(args []string, port string) []string {
	replaced := make([]string, len(args))
	for i, arg := range args {
		replaced[i] = strings.ReplaceAll(arg, Port, port)
	}
	return replaced
}
