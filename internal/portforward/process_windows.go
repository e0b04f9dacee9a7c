package portforward

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// process is a program with all that it starts, in a job that ends with this process.
// https://learn.microsoft.com/en-us/windows/win32/procthread/job-objects
type process struct {
	cmd  *exec.Cmd
	job  windows.Handle
	gone chan struct{} // closed when the program is gone, though not all that it has started may be
}

// startProcess starts a program that says all it says to output, and reads nothing. Ctrl-C
// on the console does not reach it.
func startProcess(args, env []string, output *os.File) (*process, error) {
	job, err := newJob()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the user's own command line
	cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := cmd.Start(); err != nil {
		windows.CloseHandle(job) //nolint:errcheck // it was just made
		return nil, err
	}
	p := &process{cmd: cmd, job: job, gone: make(chan struct{})}
	go p.wait()
	if err := p.enter(); err != nil {
		_ = cmd.Process.Kill()
		<-p.gone
		p.kill()
		return nil, err
	}
	return p, nil
}

// newJob makes a job whose processes are ended when its last handle is closed.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, err
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err != nil {
		windows.CloseHandle(job) //nolint:errcheck // it was just made
		return 0, err
	}
	return job, nil
}

// enter puts the program into the job, and with it all that it starts from then on.
func (p *process) enter() error {
	program, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(program) //nolint:errcheck // it was just opened
	return windows.AssignProcessToJobObject(p.job, program)
}

// terminate ends all of them: there is no way to ask.
func (p *process) terminate() { _ = windows.TerminateJobObject(p.job, 1) }

// kill is for what is left of them.
func (p *process) kill() { _ = windows.CloseHandle(p.job) }
