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
	return r.pairs(figure, target, to, func(value, other float64) float64 { return value / other })
}

// difference does so, too.
func (r results) difference(figure, target, from string) summary {
	return r.pairs(figure, target, from, func(value, other float64) float64 { return value - other })
}

func (r results) pairs(figure, target, other string, compare func(value, other float64) float64) summary {
	values, others := r[figure][target], r[figure][other]
	compared := make([]float64, min(len(values), len(others)))
	for i := range compared {
		compared[i] = compare(values[i], others[i])
	}
	return summarize(compared)
}
