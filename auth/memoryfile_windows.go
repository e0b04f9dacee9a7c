package auth

import (
	"crypto/rand"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// memoryFile returns the path of a named pipe from which content can be read once, and a function
// that releases it. Content with keys must not be written to disk. It reports false if the system
// has no such path.
func memoryFile(content string) (path string, release func(), ok bool) {
	path = `\\.\pipe\iamproxy-` + rand.Text()
	pipe, err := createPipe(path, content)
	if err != nil {
		return "", nil, false
	}
	go func() {
		defer windows.CloseHandle(pipe)                                                                    //nolint:errcheck // it was just opened
		if err := windows.ConnectNamedPipe(pipe, nil); err != nil && err != windows.ERROR_PIPE_CONNECTED { //nolint:errorlint // a number
			return
		}
		if _, err := windows.Write(pipe, []byte(content)); err == nil {
			_ = windows.FlushFileBuffers(pipe) // waits for the reader
		}
	}()
	return path, func() { releasePipe(path) }, true
}

// createPipe creates a pipe for one reader, which must be the user of this process. By default,
// all users may read from a pipe.
func createPipe(path, content string) (windows.Handle, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return 0, err
	}
	onlyUser, err := windows.SecurityDescriptorFromString("D:P(A;;GA;;;" + user.User.Sid.String() + ")")
	if err != nil {
		return 0, err
	}
	attributes := &windows.SecurityAttributes{SecurityDescriptor: onlyUser}
	attributes.Length = uint32(unsafe.Sizeof(*attributes))
	return windows.CreateNamedPipe(name, windows.PIPE_ACCESS_OUTBOUND|windows.FILE_FLAG_FIRST_PIPE_INSTANCE,
		windows.PIPE_TYPE_BYTE|windows.PIPE_WAIT|windows.PIPE_REJECT_REMOTE_CLIENTS, 1, uint32(len(content)), 0, 0, attributes)
}

// releasePipe ends the wait for a reader.
func releasePipe(path string) {
	if reader, err := os.Open(path); err == nil {
		reader.Close()
	}
}
