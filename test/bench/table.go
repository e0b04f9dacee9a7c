//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// table returns Markdown that is legible as text. A row without any figure is omitted.
func table(r results, targets []target) string {
	header := []string{"", "what"}
	for _, t := range targets {
		header = append(header, t.name)
	}
	for _, t := range targets {
		if t.name != iamproxyTarget {
			header = append(header, "of "+t.name)
		}
	}
	lines := [][]string{append(header, "goal", "")}
	for _, f := range figures {
		if len(r[f.name]) > 0 {
			lines = append(lines, row(r, f, targets))
		}
	}
	return mdtable.Table(lines)
}

func row(r results, f figure, targets []target) []string {
	line := []string{f.name, f.what}
	for _, t := range targets {
		line = append(line, show(r.of(f.name, t.name), f.digits))
	}
	for _, t := range targets {
		switch {
		case t.name == iamproxyTarget:
		case f.compares:
			line = append(line, nothing)
		default:
			line = append(line, showSpread(r.ratio(f.name, iamproxyTarget, t.name)))
		}
	}
	var goals, verdicts []string
	for _, g := range f.goals {
		goals = append(goals, g.String())
		met, known := r.reached(f.name, iamproxyTarget, g)
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

// showSpread returns the median with the minimum and maximum.
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

// thousands formats a number with commas between groups of three digits.
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

// Places in the page.
const (
	tablePlace = "make bench writes the table"
	plotPlace  = "make bench writes the plot"
)
