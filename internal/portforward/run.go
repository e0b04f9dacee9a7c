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
	// terminateTimeout is the time between SIGTERM and SIGKILL. The Session Manager
	// plugin uses it to end its session.
	terminateTimeout = 2 * time.Second
	// killTimeout limits the wait for killed processes.
	killTimeout = time.Second
)

// run is one run of the program of a Forward.
type run struct {
	address string   // the local port
	process *process // nil if the program could not be started
	output  *output

	ended chan struct{} // closed when all processes have ended
	err   error         // why the run ended; set before ended is closed
}

// newRun starts the program. If that fails, wait returns the error.
func newRun(args, env []string, outputLog *zap.Logger) *run {
	r := &run{output: newOutput(outputLog), ended: make(chan struct{})}
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
	if r.process, err = startProcess(replacePort(args, port), env, to); err != nil {
		from.Close()
		return err
	}
	r.output.from = from
	go r.output.read()
	return nil
}

// pickPort is a variable for tests.
var pickPort = freePort

// freePort returns a loopback address without a listener. If another process takes the
// port first, the program fails and the next run gets another port.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { // the host may have no IPv4
		listener, err = net.Listen("tcp", "[::1]:0")
	}
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// isInBackground reports whether the program exited with status 0 and its port still
// has a listener. A process that has left the program's session cannot be ended, and
// each restart would add another.
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

// wait waits until the program exits or ctx is done, and then ends all its processes.
// It returns why the run ended.
func (r *run) wait(ctx context.Context) error {
	defer close(r.ended)
	if r.process == nil {
		return r.err
	}
	select {
	case <-r.process.exited:
	case <-ctx.Done():
	}
	r.endAll() // the program may have left others, such as the AWS CLI's plugin
	how := r.process.result()
	if r.isInBackground() {
		how = "it went into the background; it must stay in the foreground (ssh without -f)"
	}
	r.err = errors.New(how)
	if last := r.output.lastLine(); last != "" {
		r.err = fmt.Errorf("%s: %s", how, last)
	}
	return r.err
}

// endAll terminates all processes of the run, and kills those that do not exit. All have
// exited when the program has and its output is at end of file.
func (r *run) endAll() {
	r.process.terminate()
	r.waitEnded(terminateTimeout)
	r.process.kill()
	if !r.waitEnded(killTimeout) { // one is another user's (sudo), or has left the session
		r.output.log.Warn("could not stop all processes of the port forward")
	}
	r.output.from.Close() // a process that is left may still have the other end
}

// waitEnded waits until all processes have exited, and reports whether they have.
func (r *run) waitEnded(limit time.Duration) bool {
	timeout := time.After(limit)
	for _, ended := range []<-chan struct{}{r.process.exited, r.output.ended} {
		select {
		case <-ended:
		case <-timeout:
			return false
		}
	}
	return true
}
