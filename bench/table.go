//go:build linux

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is Markdown that can be read as it is, too. A row without any figure is left
// out.
func table(r results, ways []way) string {
	header := []string{"", "what"}
	for _, w := range ways {
		header = append(header, w.name)
	}
	for _, w := range ways {
		if w.name != iamproxyWay {
			header = append(header, "of "+w.name)
		}
	}
	lines := [][]string{append(header, "goal", "")}
	for _, f := range figures {
		if len(r[f.name]) > 0 {
			lines = append(lines, row(r, f, ways))
		}
	}
	return align(lines)
}

func row(r results, f figure, ways []way) []string {
	line := []string{f.name, f.what}
	for _, w := range ways {
		line = append(line, show(r.of(f.name, w.name), f.digits))
	}
	for _, w := range ways {
		switch {
		case w.name == iamproxyWay:
		case f.compares:
			line = append(line, nothing)
		default:
			line = append(line, showSpread(r.ratio(f.name, iamproxyWay, w.name)))
		}
	}
	var goals, verdicts []string
	for _, g := range f.goals {
		goals = append(goals, g.String())
		met, known := r.reached(f.name, iamproxyWay, g)
		switch {
		case !known:
			verdicts = append(verdicts, "not measured")
		case met:
			verdicts = append(verdicts, "met")
		default:
			verdicts = append(verdicts, "**missed**")
		}
	}
	return append(line, strings.Join(goals, ", "), strings.Join(verdicts, ", "))
}

func (g goal) String() string {
	sign := "≥"
	if g.most {
		sign = "≤"
	}
	limit := strconv.FormatFloat(g.limit, 'f', -1, 64)
	if g.of != "" {
		return fmt.Sprintf("%s %s of %s", sign, limit, g.of)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", sign, limit, g.unit))
}

const nothing = "–"

func show(s summary, digits int) string {
	if s.n == 0 {
		return nothing
	}
	return thousands(s.median, digits)
}

// showSpread is a median with the least and the most that there was.
func showSpread(s summary) string {
	switch s.n {
	case 0:
		return nothing
	case 1:
		return fmt.Sprintf("%.2f", s.median)
	default:
		return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.min, s.max)
	}
}

// thousands is a number with a comma between each three digits before the point.
func thousands(value float64, digits int) string {
	text := strconv.FormatFloat(value, 'f', digits, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}

// align makes a table of lines, of which the first is the header.
func align(lines [][]string) string {
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

// Between two such lines of a page stands what was measured.
func partBegins(part string) string { return "<!-- make bench writes " + part + " from here -->\n" }

const partEnds = "<!-- to here -->\n"

// replacePart puts text between the two lines of a part of a page.
func replacePart(page, part, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	begins := partBegins(part)
	before, rest, found := strings.Cut(string(old), begins)
	_, after, ended := strings.Cut(rest, partEnds)
	if !found || !ended {
		return fmt.Errorf("%s has no place for %s: put in the lines %q and %q", page, part, begins, partEnds)
	}
	return os.WriteFile(page, []byte(before+begins+"\n"+text+"\n"+partEnds+after), 0o644)
}
