//go:build linux

package main

import (
	"math"
	"slices"
)

// results are the values of each figure and target, by round; NaN where there is none.
type results map[string]map[string][]float64

func (r results) add(figure, target string, round int, value float64) {
	if r[figure] == nil {
		r[figure] = make(map[string][]float64)
	}
	values := r[figure][target]
	for len(values) <= round {
		values = append(values, math.NaN())
	}
	values[round] = value
	r[figure][target] = values
}

// summary summarizes values.
type summary struct {
	n                int
	median, min, max float64
}

// summarize ignores NaN.
func summarize(values []float64) summary {
	sorted := slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	slices.Sort(sorted)
	n := len(sorted)
	if n == 0 {
		return summary{}
	}
	return summary{n: n, median: (sorted[(n-1)/2] + sorted[n/2]) / 2, min: sorted[0], max: sorted[n-1]}
}

// of returns the summary of a figure of a target.
func (r results) of(figure, target string) summary { return summarize(r[figure][target]) }

// ratio compares two targets, round by round, since values of one round are close in time.
func (r results) ratio(figure, target, to string) summary {
	values, others := r[figure][target], r[figure][to]
	ratios := make([]float64, min(len(values), len(others)))
	for i := range ratios {
		ratios[i] = values[i] / others[i]
	}
	return summarize(ratios)
}

// reached reports whether a target reaches a goal, and whether its figures are known.
func (r results) reached(figure, target string, g goal) (met, known bool) {
	s := r.of(figure, target)
	if g.of != "" {
		s = r.ratio(figure, target, g.of)
	}
	if g.most {
		return s.median <= g.limit, s.n > 0
	}
	return s.median >= g.limit, s.n > 0
}

// medianDifference returns the median difference of pairs that were measured in turn.
func medianDifference(values, others []float64) float64 {
	differences := make([]float64, min(len(values), len(others)))
	for i := range differences {
		differences[i] = values[i] - others[i]
	}
	return summarize(differences).median
}
