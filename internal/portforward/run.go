package portforward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"
)

const (
	// grace is how long a program and what it has started have to end when they are asked
	// to: the Session Manager plugin tells AWS meanwhile.
	grace = 2 * time.Second
	// outputWait is how long the last words may take of what was killed.
	outputWait = time.Second
)

// run is one run of the program.
type run struct {
	address string   // the local one
	process *process // nil if it could not be started
	output  *output

	ended chan struct{} // closed when nothing is left
	err   error         // why; set before that
}

// newRun starts the program. That it could not be is told by wait.
func newRun(args, env []string, said *zap.Logger) *run {
	r := &run{output: newOutput(said), ended: make(chan struct{})}
	r.err = r.start(args, env)
	return r
}

func (r *run) start(args, env []string) (err error) {
	if r.address, err = pickPort(); err != nil {
		return fmt.Errorf("no free port: %w", err)
	}
	_, port, err := net.SplitHostPort(r.address)
	if err != nil {
		return err
	}
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer to.Close()
	if r.process, err = startProcess(withPort(args, port), env, to); err != nil {
		from.Close()
		return err
	}
	r.output.from = from
	go r.output.read()
	return nil
}

// pickPort is freePort, unless a test has taken one.
var pickPort = freePort

// freePort is an address where nobody listens now. Who takes it before the program does
// makes that end, and the next run has another.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { // there may be IPv6 alone
		listener, err = net.Listen("tcp", "[::1]:0")
	}
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// isInBackground reports whether the program has ended as if all were well, and somebody
// still has its port: what has left the program's session cannot be ended, and another
// each time would pile up.
func (r *run) isInBackground() bool {
	if r.process == nil || !r.process.succeeded() {
		return false
	}
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		return true
	}
	listener.Close()
	return false
}

// wait returns why the program ended, by itself or because ctx is done, once
// nothing is left of it.
func (r *run) wait(ctx context.Context) error {
	defer close(r.ended)
	if r.process == nil {
		return r.err
	}
	select {
	case <-r.process.gone:
	case <-ctx.Done():
	}
	r.endAll() // also what it has left behind: the AWS CLI's plugin, say
	how := r.process.end()
	if r.isInBackground() {
		how = "it went into the background; it has to stay in the foreground (ssh without -f)"
	}
	r.err = errors.New(how)
	if last := r.output.lastLine(); last != "" {
		r.err = fmt.Errorf("%s: %s", how, last)
	}
	return r.err
}

// endAll asks all processes to end, and kills those that do not. All of them are gone
// when the program is, and nobody is left to say anything.
func (r *run) endAll() {
	r.process.terminate()
	r.awaitEnd(grace)
	r.process.kill()
	if !r.awaitEnd(outputWait) { // it is another user's (sudo), or has left the session
		r.output.log.Warn("the port forward could not be ended; something of it is left")
	}
	r.output.from.Close() // who got away is not listened to any more
}

func (r *run) awaitEnd(atMost time.Duration) bool {
	timeout := time.After(atMost)
	for _, ended := range []<-chan struct{}{r.process.gone, r.output.ended} {
		select {
		case <-ended:
		case <-timeout:
			return false
		}
	}
	return true
}
