package command

import (
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

// Add puts a process into the job. Processes that it starts later are in it, too.
func (j *Job) Add(pid int) error {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(process) //nolint:errcheck // it was just opened
	return windows.AssignProcessToJobObject(j.handle, process)
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
