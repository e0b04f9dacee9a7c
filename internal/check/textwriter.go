package check

import (
	"fmt"
	"io"
)

// TextWriter writes a check for people, step by step.
type TextWriter struct {
	Out    io.Writer
	Colors bool

	err  error  // of the first failed write
	next string // the last command written
}

// The columns fit the longest names and states.
const (
	stepLine = "%-11s  %s%-13s%s  %8s  %s\n"
	nextLine = "%38s%s\n" // below what was found
)

// Step writes the result of a step.
func (w *TextWriter) Step(step Step) {
	took := fmt.Sprintf("%.0f ms", step.Seconds*1000)
	if step.State == NotTried {
		took = ""
	}
	begin, end := w.color(step.State)
	w.printf(stepLine, step.Name, begin, step.State, end, took, step.Found)
	if step.Next != "" && step.Next != w.next { // steps that fail for the same reason have the same command
		w.printf(nextLine, "", step.Next)
		w.next = step.Next
	}
}

// Verdict writes the result of the check. The command to run next starts in the first column,
// on a separate line. Verdict returns the first error of any write.
func (w *TextWriter) Verdict(report Report) error {
	if report.OK {
		begin, end := w.color(OK)
		w.printf("\n%sok%s: %s can log in to %s\n", begin, end, report.User, report.Database)
		return w.err
	}
	begin, end := w.color(Failed)
	w.printf("\n%sfailed%s: %s\n", begin, end, report.Cause)
	if report.Next != "" {
		w.printf("do this next:\n%s\n", report.Next)
	}
	return w.err
}

func (w *TextWriter) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(w.Out, format, args...); w.err == nil {
		w.err = err
	}
}

// stateColors are the SGR sequences of ECMA-48.
var stateColors = map[State]string{
	OK:           "\x1b[32m", // green
	Failed:       "\x1b[31m", // red
	NotPermitted: "\x1b[33m", // yellow
	NoAnswer:     "\x1b[33m",
	NotTried:     "\x1b[2m", // faint
}

func (w *TextWriter) color(state State) (begin, end string) {
	if !w.Colors {
		return "", ""
	}
	return stateColors[state], "\x1b[0m"
}
