package auth

import (
	"context"
	"os"
	"os/exec"
	"strings"
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

	mu  sync.Mutex
	run *processRun // nil while it does not run
}

// processRun is one run of a process.
type processRun struct {
	started time.Time
	cancel  context.CancelFunc
	exited  chan struct{} // closed when the process has exited
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

// processCommand returns the command of a credential_process: as it is in the file, or
// as the SDK read it if the file was not read. The SDK removes a quote from the beginning
// and from the end, even if they belong to different words. A command that is in quotes as a whole
// works with the SDK, and remains valid unless it is the path of a file.
func processCommand(inFile, read string) string {
	whole := unquote(inFile)
	if inFile == "" || whole != inFile && !strings.Contains(whole, inFile[:1]) && !isFile(whole) {
		return read
	}
	return inFile
}

func isFile(path string) bool {
	info, err := os.Stat(path) //nolint:gosec // named by the user's configuration
	return err == nil && info.Mode().IsRegular()
}

// Retrieve runs the process until it exits or processTimeout is over, also if ctx is done
// before: later callers use its answer.
func (p *process) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err, _ := p.calls.Do("", func() (any, error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		run := &processRun{wallClock(), cancel, make(chan struct{})}
		defer close(run.exited)
		defer p.setRun(nil)
		defer cancel()
		p.setRun(run)
		return p.provider.Retrieve(ctx)
	})
	return creds.(aws.Credentials), err
}

func (p *process) setRun(run *processRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run = run
}

// current returns the current run, or nil.
func (p *process) current() *processRun {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// running returns for how long the process has been running, or false if it does not.
func (p *process) running() (time.Duration, bool) {
	run := p.current()
	if run == nil {
		return 0, false
	}
	return wallClock().Sub(run.started), true
}

// kill ends the process with its descendants, if it runs, and waits for it.
func (p *process) kill() {
	if run := p.current(); run != nil {
		run.cancel()
		<-run.exited
	}
}

// EndProcesses kills each running credential_process with its descendants. The program
// calls it before it exits.
func EndProcesses() {
	processes.mu.Lock()
	defer processes.mu.Unlock()
	for _, p := range processes.byCommand {
		p.kill()
	}
}

// inOwnGroup builds commands that are killed with their descendants.
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
