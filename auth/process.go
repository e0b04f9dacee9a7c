package auth

import (
	"context"
	"os/exec"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"golang.org/x/sync/singleflight"
)

// processTimeout limits a credential_process, which may wait for a person in a browser. It
// is a variable for tests.
var processTimeout = 5 * time.Minute

// process is a credential_process. It is shared by all identities with the same
// command, so that a second one never runs beside one that has not exited.
type process struct {
	provider *processcreds.Provider
	calls    singleflight.Group

	mu      sync.Mutex
	started time.Time // zero while it does not run
	cancel  context.CancelFunc
}

var processes struct {
	mu        sync.Mutex
	byCommand map[string]*process
}

// processOf returns the process with a command line.
func processOf(command string) *process {
	processes.mu.Lock()
	defer processes.mu.Unlock()
	if known := processes.byCommand[command]; known != nil {
		return known
	}
	p := new(process)
	p.provider = processcreds.NewProviderCommand(inOwnGroup{processcreds.DefaultNewCommandBuilder{Args: []string{command}}},
		func(o *processcreds.Options) { o.Timeout = processTimeout })
	if processes.byCommand == nil {
		processes.byCommand = make(map[string]*process)
	}
	processes.byCommand[command] = p
	return p
}

// Retrieve runs the process until it exits or processTimeout is over, whatever ctx is: its
// answer serves later callers.
func (p *process) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err, _ := p.calls.Do("", func() (any, error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		p.set(wallClock(), cancel)
		defer p.set(time.Time{}, nil)
		return p.provider.Retrieve(ctx)
	})
	return creds.(aws.Credentials), err
}

func (p *process) set(started time.Time, cancel context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started, p.cancel = started, cancel
}

// running returns for how long the process has been running, or false if it does not.
func (p *process) running() (time.Duration, bool) {
	if p == nil {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return wallClock().Sub(p.started), !p.started.IsZero()
}

// kill ends the process with its descendants, if it runs.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
}

// inOwnGroup has a process killed with its descendants.
type inOwnGroup struct {
	processcreds.NewCommandBuilder
}

// NewCommand returns the command to run.
func (b inOwnGroup) NewCommand(ctx context.Context) (*exec.Cmd, error) {
	cmd, err := b.NewCommandBuilder.NewCommand(ctx)
	if err == nil {
		killGroup(cmd)
		cmd.WaitDelay = time.Second // a descendant in another group may keep the output open
	}
	return cmd, err
}
