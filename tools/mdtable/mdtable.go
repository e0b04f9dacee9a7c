// Package mdtable writes into pages of Markdown what a program has found out.
package mdtable

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

const ends = "<!-- to here -->\n"

// begins is the line behind which who writes.
func begins(who string) string { return "<!-- " + who + " from here -->\n" }

// Replace puts text between the line of a file in which it says that who writes
// from there, as "make drivers writes", and the next that says "to here". It is an
// error if there are no such lines.
func Replace(file, who, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), begins(who))
	_, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		return fmt.Errorf("%s has no place for it: put in the lines %q and %q", file, begins(who), ends)
	}
	return os.WriteFile(file, []byte(before+begins(who)+"\n"+text+"\n"+ends+after), 0o644)
}

// Table is a table that can be read as it is, too. The first line is its head.
func Table(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var out strings.Builder
	for n, line := range lines {
		for i, text := range line {
			fmt.Fprintf(&out, "| %s%s ", text, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)))
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				out.WriteString("|" + strings.Repeat("-", width+2))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}
