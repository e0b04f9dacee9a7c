package main

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/iamproxy/iamproxy/internal/check"
)

// checkScreen shows a check to people, step by step.
type checkScreen struct {
	out     io.Writer
	colours bool
	err     error  // of the first write that failed
	next    string // the last line to paste
}

// The columns are as wide as the longest names and states of package check.
const (
	stepLine = "%-11s  %s%-13s%s  %8s  %s\n"
	nextLine = "%38s%s\n" // below what was found
)

func (s *checkScreen) step(step check.Step) {
	took := fmt.Sprintf("%.0f ms", step.Seconds*1000)
	if step.State == check.NotTried {
		took = ""
	}
	began, ended := s.colour(step.State)
	s.print(stepLine, step.Name, began, step.State, ended, took, step.Found)
	if step.Next != "" && step.Next != s.next { // it is the same where one step explains another
		s.print(nextLine, "", step.Next)
		s.next = step.Next
	}
}

// verdict ends with the line to paste, alone and from the first column.
func (s *checkScreen) verdict(report check.Report) error {
	if report.OK {
		began, ended := s.colour(check.OK)
		s.print("\n%sok%s: %s can log in to %s\n", began, ended, report.User, report.Database)
		return s.err
	}
	began, ended := s.colour(check.Failed)
	s.print("\n%sfailed%s: %s\n", began, ended, report.Cause)
	if report.Next != "" {
		s.print("do this next:\n%s\n", report.Next)
	}
	return s.err
}

func (s *checkScreen) print(format string, args ...any) {
	if _, err := fmt.Fprintf(s.out, format, args...); s.err == nil {
		s.err = err
	}
}

// stateColours are of ECMA-48 (SGR).
var stateColours = map[check.State]string{
	check.OK:           "\x1b[32m", // green
	check.Failed:       "\x1b[31m", // red
	check.NotPermitted: "\x1b[33m", // yellow
	check.NoAnswer:     "\x1b[33m",
	check.NotTried:     "\x1b[2m", // faint
}

func (s *checkScreen) colour(state check.State) (began, ended string) {
	if !s.colours {
		return "", ""
	}
	return stateColours[state], "\x1b[0m"
}

// wantsColours: on a terminal that has them, unless somebody does not want them
// (https://no-color.org). Of Windows's only the newer one is sure to.
func wantsColours(w io.Writer) bool {
	has := isTerminal(w) && os.Getenv("TERM") != "dumb"
	if runtime.GOOS == "windows" {
		has = has && os.Getenv("WT_SESSION") != ""
	}
	return has && os.Getenv("NO_COLOR") == ""
}
