package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
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
	port    string
	process *process // nil if it could not be started
	output  *output
	end     func() // of all that it has started; once

	ended chan struct{} // closed when nothing is left
	err   error         // why; set before that
}

// newRun starts the program. That it could not be is told by wait.
func newRun(args []string, said *zap.Logger) *run {
	r := &run{output: newOutput(said), ended: make(chan struct{})}
	r.end = sync.OnceFunc(r.endAll)
	r.err = r.start(args)
	return r
}

func (r *run) address() string { return net.JoinHostPort(loopback, r.port) }

const loopback = "127.0.0.1"

func (r *run) start(args []string) (err error) {
	if r.port, err = pickPort(); err != nil {
		return fmt.Errorf("no free port: %w", err)
	}
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer to.Close()
	if r.process, err = startProcess(withPort(args, r.port), to); err != nil {
		from.Close()
		return err
	}
	r.output.from = from
	go r.output.read()
	return nil
}

// pickPort is freePort, unless a test has taken one.
var pickPort = freePort

// freePort is one where nobody listens now. Who takes it before the program does makes that
// end, and the next run has another.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}

// wait returns why the program ended, by itself or because ctx is done, once
// nothing is left of it.
func (r *run) wait(ctx context.Context) error {
	defer close(r.ended)
	if r.process == nil {
		return r.err
	}
	defer context.AfterFunc(ctx, r.end)()
	how := r.process.wait()
	r.end() // what it has left behind: the AWS CLI's plugin, say
	r.err = errors.New(how)
	if last := r.output.lastLine(); last != "" {
		r.err = fmt.Errorf("%s: %s", how, last)
	}
	return r.err
}

// endAll asks all processes to end, and kills those that do not. All of them are gone
// when nobody is left to say anything.
func (r *run) endAll() {
	r.process.terminate()
	r.output.awaitEnd(grace)
	r.process.kill()
	r.output.awaitEnd(outputWait)
	r.output.from.Close() // somebody got away, and is not listened to any more
}
