package auth

import (
	"fmt"
	"io"
	"os"
)

// memoryFile returns a path from which content can be read once, and a function
// that releases it. Content with keys must not be written to disk. It reports
// false if the system has no such path.
func memoryFile(content string) (path string, release func(), ok bool) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return "", nil, false
	}
	path = fmt.Sprintf("/dev/fd/%d", reader.Fd())
	if _, err := os.Stat(path); err != nil {
		reader.Close()
		writer.Close()
		return "", nil, false
	}
	go func() {
		defer writer.Close()
		_, _ = io.WriteString(writer, content) // fails if the pipe is released unread
	}()
	return path, func() { reader.Close() }, true
}

// forSDK returns the paths to pass to the SDK, and a function that releases them. A
// file that cannot be used is not passed: the SDK would fail on some of them, even if
// it needs none.
func (f *sharedFile) forSDK() (paths []string, release func()) {
	if f.problem != "" {
		return []string{}, func() {}
	}
	if f.content != "" {
		if path, release, ok := memoryFile(f.content); ok {
			return []string{path}, release
		}
	}
	return []string{f.path}, func() {}
}
