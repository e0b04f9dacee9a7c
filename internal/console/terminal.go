// Package console prints the texts of run for a terminal, besides the lines of the log.
package console

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// SupportsColors reports whether out is a terminal with colors. On Windows, only Windows Terminal
// is known to support them. See https://no-color.org.
func SupportsColors(out io.Writer) bool {
	supports := IsTerminal(out) && os.Getenv("TERM") != "dumb"
	if runtime.GOOS == "windows" {
		supports = supports && os.Getenv("WT_SESSION") != ""
	}
	return supports && os.Getenv("NO_COLOR") == ""
}

// Width returns the number of columns if out is a terminal, or 0.
func Width(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}
