// Package portforward keeps a program running that forwards a local port: the AWS CLI with
// its Session Manager plugin, ssh, kubectl. It knows nothing of what is behind the port.
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
)

const (
	// A program that ended is started again after firstPause, and then twice as long each
	// time, up to longestPause. One that ran for longer than that begins anew.
	firstPause, longestPause = 500 * time.Millisecond, 10 * time.Second
	// knockEvery is how often a port is tried that does not answer yet.
	knockEvery = 50 * time.Millisecond
	// Of what a program says sampleLines are logged in sampleTime.
	sampleLines, sampleTime = 20, time.Minute
)

// Port in an argument stands for the local port.
const Port = "{port}"

// Forward is a program that is started again whenever it ends, with a free port of the
// loopback address each time. Args must be set; the fields must not change after Start.
type Forward struct {
	// Name is what logs and errors call it. They have nothing else of the command line.
	Name string
	// Args are the program, as a path, and its arguments. Port in them is replaced.
	Args []string
	// Env is the program's environment; nil is this process's own.
	Env []string
	// Hint is what to do if it ends by itself, or does not come up. May be empty.
	Hint string
	// Log may be nil.
	Log *zap.Logger

	log     *zap.Logger
	cancel  context.CancelFunc
	stopped chan struct{}

	mu  sync.Mutex
	run *run // the last one
}

// Start begins in the background. It must be called once, before all else.
func (f *Forward) Start() {
	f.log = zap.NewNop()
	if f.Log != nil {
		f.log = f.Log.With(zap.String("via", f.Name))
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.stopped = cancel, make(chan struct{})
	said := f.log.WithOptions(zap.WrapCore(sampled))
	f.begin(said)
	go f.supervise(ctx, said)
}

// sampled keeps a program that says much from flooding the log.
func sampled(core zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(core, sampleTime, sampleLines, 0)
}

// Stop ends the program and all that it has started. It returns when they are gone, after
// a few seconds at the most.
func (f *Forward) Stop() {
	f.cancel()
	<-f.stopped
}

// supervise starts the program again until ctx is done.
func (f *Forward) supervise(ctx context.Context, said *zap.Logger) {
	defer close(f.stopped)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		r := f.current()
		err := r.wait(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		f.log.Warn("the port forward ended; it is started again", zap.Error(err), zap.Duration("in", pause))
		for rest := pause; ; rest = longestPause {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
				return
			}
			if !r.isInBackground() {
				break
			}
		}
		f.begin(said)
	}
}

// begin starts the program.
func (f *Forward) begin(said *zap.Logger) {
	r := newRun(f.Args, f.Env, said)
	f.mu.Lock()
	f.run = r
	f.mu.Unlock()
	if r.process != nil {
		f.log.Info("the port forward is started", zap.String("address", r.address))
	}
}

func (f *Forward) current() *run {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run
}

// Dial connects to the local port as soon as that answers, whatever the address. The error
// is an *Error if the program has ended, or if ctx was done before; then it wraps ctx's.
// It goes by the connection itself: the port is not tried with others, which the
// program would forward, too.
func (f *Forward) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	r, began := f.current(), time.Now()
	dialer := net.Dialer{KeepAlive: -1} // on loopback nobody vanishes
	for {
		select {
		case <-r.ended:
			return nil, &Error{Text: "the port forward ended: " + r.err.Error(), Hint: f.Hint}
		default:
		}
		if conn, err := dialer.DialContext(ctx, network, r.address); err == nil {
			return conn, nil
		}
		select {
		case <-time.After(knockEvery):
		case <-r.ended:
		case <-ctx.Done():
			return nil, f.notUp(ctx, time.Since(began))
		}
	}
}

func (f *Forward) notUp(ctx context.Context, waited time.Duration) error {
	said := cmp.Or(f.Said(), "nothing")
	return &Error{
		Text: fmt.Sprintf("the port forward does not answer after %s; it has said: %s", waited.Round(100*time.Millisecond), said),
		Hint: f.Hint,
		Err:  ctx.Err(),
	}
}

// Said is the last line that the program has written; empty if it has written none.
func (f *Forward) Said() string { return f.current().output.lastLine() }

// Error is why there is no connection through a port forward.
type Error struct {
	Text string // for people, in one line; the program's own words at the end
	Hint string // what to do about it; may be empty
	Err  error  // of the context that was done before the port answered; else nil
}

func (e *Error) Error() string { return e.Text }

func (e *Error) Unwrap() error { return e.Err }

// Advice is what to do about it; it may be empty.
func (e *Error) Advice() string { return e.Hint }

// withPort are the arguments for a local port.
func withPort(args []string, port string) []string {
	filled := make([]string, len(args))
	for i, arg := range args {
		filled[i] = strings.ReplaceAll(arg, Port, port)
	}
	return filled
}
