package portforward

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// process is a program with its descendants, in a job that ends with this process.
// https://learn.microsoft.com/en-us/windows/win32/procthread/job-objects
type process struct {
	cmd    *exec.Cmd
	job    windows.Handle
	exited chan struct{} // closed when the program has exited; its descendants may run on
}

// startProcess starts a program with its standard output and error connected to output. It
// gets no Ctrl-C of the console.
func startProcess(args, env []string, output *os.File) (*process, error) {
	job, err := newJob()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // the user's own command line
	cmd.Env, cmd.Stdout, cmd.Stderr = env, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if err := cmd.Start(); err != nil {
		windows.CloseHandle(job) //nolint:errcheck // it was just created
		return nil, err
	}
	p := &process{cmd: cmd, job: job, exited: make(chan struct{})}
	go p.wait()
	if err := p.assign(); err != nil {
		_ = cmd.Process.Kill()
		<-p.exited
		p.kill()
		return nil, err
	}
	return p, nil
}

// newJob creates a job whose processes are ended when its last handle is closed.
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
		windows.CloseHandle(job) //nolint:errcheck // it was just created
		return 0, err
	}
	return job, nil
}

// assign puts the program into the job. Processes that it starts later are in it, too.
func (p *process) assign() error {
	program, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(program) //nolint:errcheck // it was just opened
	return windows.AssignProcessToJobObject(p.job, program)
}

// terminate ends all processes of the job. Windows has no request to exit.
func (p *process) terminate() { _ = windows.TerminateJobObject(p.job, 1) }

// kill closes the job, which ends the processes that are left.
func (p *process) kill() { _ = windows.CloseHandle(p.job) }
