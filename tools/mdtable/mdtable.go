// Package mdtable writes tables and other results into pages of Markdown.
package mdtable

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

const ends = "<!-- to here -->\n"

// begins returns the line that starts the text of a writer.
func begins(writer string) string { return "<!-- " + writer + " from here -->\n" }

// Replace replaces the text between two comments of a file: the one that names the writer,
// such as "make drivers writes the table from here", and the next "to here". It is an error
// if they are missing.
func Replace(file, writer, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), begins(writer))
	_, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		return fmt.Errorf("%s has no place for it: put in the lines %q and %q", file, begins(writer), ends)
	}
	return os.WriteFile(file, []byte(before+begins(writer)+"\n"+text+"\n"+ends+after), 0o644)
}

// Table returns a Markdown table that is legible as text. The first line is its header.
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
