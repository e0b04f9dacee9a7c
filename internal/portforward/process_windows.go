package portforward

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/iamproxy/iamproxy/internal/command"
)

// process is a program with its descendants, in a job that ends with this process.
type process struct {
	cmd    *exec.Cmd
	job    *command.Job
	exited chan struct{} // closed when the program has exited; its descendants may run on
}

// startProcess starts a program with its standard output and error connected to output. It
// gets no Ctrl-C of the console.
func startProcess(args, env []string, output *os.File) (*process, error) {
	job, err := command.NewJob()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the user's own command line
	cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := job.Start(cmd); err != nil {
		_ = job.Close()
		return nil, err
	}
	p := &process{cmd: cmd, job: job, exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// terminate ends all processes of the job. Windows has no request to exit.
func (p *process) terminate() { _ = p.job.Terminate() }

// kill closes the job, which ends the processes that are left.
func (p *process) kill() { _ = p.job.Close() }
