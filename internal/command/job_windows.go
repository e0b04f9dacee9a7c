package command

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Job is a set of processes that end with this process.
// https://learn.microsoft.com/en-us/windows/win32/procthread/job-objects
type Job struct{ handle windows.Handle }

// NewJob returns an empty job.
func NewJob() (*Job, error) {
	handle, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, err
	}
	j := &Job{handle}
	if err := j.limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE); err != nil {
		_ = j.Close()
		return nil, err
	}
	return j, nil
}

func (j *Job) limit(flags uint32) error {
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	limits.BasicLimitInformation.LimitFlags = flags
	_, err := windows.SetInformationJobObject(j.handle, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	return err
}

// Start starts a command in the job. The command runs only once it is in the job, so that all
// processes that it starts are in it, too.
func (j *Job) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.CreationFlags |= windows.CREATE_SUSPENDED
	if err := cmd.Start(); err != nil {
		return err
	}
	err := j.add(uint32(cmd.Process.Pid))
	if err == nil {
		err = resume(uint32(cmd.Process.Pid))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return err
}

func (j *Job) add(pid uint32) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, pid)
	if err != nil {
		return os.NewSyscallError("OpenProcess", err)
	}
	defer windows.CloseHandle(process) //nolint:errcheck // it was just opened
	return os.NewSyscallError("AssignProcessToJobObject", windows.AssignProcessToJobObject(j.handle, process))
}

// resume resumes the threads of a process. Package os keeps no handle of the first one.
func resume(pid uint32) error {
	threads, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return os.NewSyscallError("CreateToolhelp32Snapshot", err)
	}
	defer windows.CloseHandle(threads) //nolint:errcheck // it was just opened
	found := os.NewSyscallError("Thread32Next", windows.ERROR_NO_MORE_FILES)
	entry := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(threads, &entry); err == nil; err = windows.Thread32Next(threads, &entry) {
		if entry.OwnerProcessID == pid {
			found = resumeThread(entry.ThreadID)
		}
	}
	return found
}

func resumeThread(id uint32) error {
	thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, id)
	if err != nil {
		return os.NewSyscallError("OpenThread", err)
	}
	defer windows.CloseHandle(thread) //nolint:errcheck // it was just opened
	_, err = windows.ResumeThread(thread)
	return os.NewSyscallError("ResumeThread", err)
}

// Terminate ends all processes of the job.
func (j *Job) Terminate() error { return windows.TerminateJobObject(j.handle, 1) }

// Release closes the job, and lets its processes run on.
func (j *Job) Release() error {
	if err := j.limit(0); err != nil {
		return err
	}
	return j.Close()
}

// Close closes the job, which ends its processes.
func (j *Job) Close() error { return windows.CloseHandle(j.handle) }
