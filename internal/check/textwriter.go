package check

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// TextWriter writes a check for people, step by step.
type TextWriter struct {
	Out    io.Writer
	Colors bool
	// Width is the number of columns of a terminal, at which texts are wrapped. At zero, they are
	// not. Command lines never are, so that they can be copied.
	Width int

	err  error  // of the first failed write
	next string // the last next step written
}

// The columns fit the longest names and states.
const (
	stepLine = "%-11s  %s%-13s%s  %8s  %s\n"
	indent   = 38 // of what was found
)

// Step writes the result of a step.
func (w *TextWriter) Step(step Step) {
	took := fmt.Sprintf("%.0f ms", step.Seconds*1000)
	if step.State == NotTried {
		took = ""
	}
	begin, end := w.color(step.State)
	found := wrap(step.Found, w.Width-indent)
	w.printf(stepLine, step.Name, begin, step.State, end, took, found[0])
	w.lines(indent, found[1:])
	if step.Next != "" && step.Next != w.next { // steps that fail for the same reason have the same next step
		w.nextStep(indent, step.Next)
		w.next = step.Next
	}
}

// Verdict writes the result of the check. The command to run next starts in the first column,
// on a separate line, and the URL of the documentation follows it. Verdict returns the first error of
// any write.
func (w *TextWriter) Verdict(report Report) error {
	if report.OK {
		begin, end := w.color(OK)
		w.printf("\n%sok%s: user %q can log in to database %q\n", begin, end, report.User, report.Database)
		return w.err
	}
	begin, end := w.color(Failed)
	const label = "failed: "
	lines := wrap(label+report.Cause, w.Width)
	w.printf("\n%sfailed%s: %s\n", begin, end, strings.TrimPrefix(lines[0], label))
	w.lines(0, lines[1:])
	if report.Next != "" {
		w.printf("do this next:\n")
		w.nextStep(0, report.Next)
	}
	if report.More != "" {
		w.printf("more: %s\n", report.More)
	}
	return w.err
}

// nextStep writes a next step. Each line of a wrapped comment is a comment.
func (w *TextWriter) nextStep(indent int, next string) {
	for line := range strings.SplitSeq(next, "\n") {
		comment, isComment := strings.CutPrefix(line, commentPrefix)
		if !isComment {
			w.lines(indent, []string{line})
			continue
		}
		wrapped := wrap(comment, w.Width-indent-len(commentPrefix))
		for i := range wrapped {
			wrapped[i] = commentPrefix + wrapped[i]
		}
		w.lines(indent, wrapped)
	}
}

func (w *TextWriter) lines(indent int, lines []string) {
	for _, line := range lines {
		w.printf("%*s%s\n", indent, "", line)
	}
}

// minWidth is the width of the narrowest column in which texts are wrapped.
const minWidth = 20

// wrap splits text at spaces into lines of at most width characters. A longer word has a
// separate line. In a column that is too narrow, there is one line.
func wrap(text string, width int) []string {
	if width < minWidth {
		return []string{text}
	}
	var lines []string
	line, length := "", 0
	for word := range strings.SplitSeq(text, " ") {
		n := utf8.RuneCountInString(word)
		if line != "" && length+1+n > width {
			lines, line, length = append(lines, line), "", 0
		}
		if line != "" {
			line, length = line+" ", length+1
		}
		line, length = line+word, length+n
	}
	return append(lines, line)
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
