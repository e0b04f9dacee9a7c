//go:build !windows

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
