//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// table returns all figures with their goals, for the output of a run. A row without any
// figure is omitted.
func table(r results, targets []target) string {
	header := append([]string{"figure", "meaning"}, headers(targets)...)
	lines := [][]string{append(header, "goal", "result")}
	for _, f := range figures {
		if len(r[f.name]) == 0 {
			continue
		}
		goals, verdicts := r.verdicts(f)
		line := append([]string{f.name, f.title}, r.row(f, targets)...)
		lines = append(lines, append(line, strings.Join(goals, ", "), strings.Join(verdicts, ", ")))
	}
	return mdtable.Table(lines)
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
		switch {
		case t.name == iamproxyTarget:
		case f.compares:
			line = append(line, nothing)
		default:
			line = append(line, showSpread(r.ratio(f.name, iamproxyTarget, t.name)))
		}
	}
	return line
}

const (
	goalMet    = "met"
	goalMissed = "missed"
)

// verdicts returns the goals of a figure, and whether iamproxy reaches each.
func (r results) verdicts(f figure) (goals, verdicts []string) {
	for _, g := range f.goals {
		goals = append(goals, g.String())
		met, known := r.reached(f.name, iamproxyTarget, g)
		switch {
		case !known:
			verdicts = append(verdicts, "not measured")
		case met:
			verdicts = append(verdicts, goalMet)
		default:
			verdicts = append(verdicts, goalMissed)
		}
	}
	return goals, verdicts
}

// score returns how many goals are met, of those that were measured.
func score(r results) string {
	met, missed := 0, 0
	for _, f := range figures {
		_, verdicts := r.verdicts(f)
		for _, v := range verdicts {
			switch v {
			case goalMet:
				met++
			case goalMissed:
				missed++
			}
		}
	}
	return fmt.Sprintf("%d of %d goals are met.", met, met+missed)
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
