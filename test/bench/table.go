//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// table returns all figures, for the output of a run. A row without any figure is omitted.
func table(r results, targets []target) string {
	lines := [][]string{append([]string{"figure", "meaning"}, headers(targets)...)}
	for _, f := range figures {
		if len(r[f.name]) > 0 {
			lines = append(lines, append([]string{f.name, f.title}, r.row(f, targets)...))
		}
	}
	return mdtable.Table(lines)
}

// goalTable returns each goal whose figures were measured, and how many of them are met.
func goalTable(r results) string {
	lines := [][]string{{"figure", "goal", "result", ""}}
	met, missed := 0, 0
	for _, f := range figures {
		for _, g := range f.goals {
			value, reached, known := g.result(r)
			line := []string{f.name, g.text, thousands(value, 2), "met"}
			switch {
			case !known:
				continue
			case reached:
				met++
			default:
				missed++
				line[3] = "missed"
			}
			lines = append(lines, line)
		}
	}
	if len(lines) == 1 {
		return ""
	}
	return fmt.Sprintf("%s\n%d of %d goals are met.\n", mdtable.Table(lines), met, met+missed)
}

// headers returns the headers of the values, and of the ratios of iamproxy to the others.
func headers(targets []target) []string {
	var header []string
	for _, t := range targets {
		header = append(header, t.name)
	}
	for _, t := range targets {
		if t.name != iamproxyTarget {
			header = append(header, iamproxyTarget+" / "+t.name)
		}
	}
	return header
}

// row returns the values of a figure, and the ratios.
func (r results) row(f figure, targets []target) []string {
	var line []string
	for _, t := range targets {
		line = append(line, show(r.of(f.name, t.name), f.digits))
	}
	for _, t := range targets {
		if t.name != iamproxyTarget {
			line = append(line, showSpread(r.ratio(f.name, iamproxyTarget, t.name)))
		}
	}
	return line
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
