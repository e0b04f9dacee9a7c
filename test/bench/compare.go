//go:build linux

package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// tolerance is how much worse than the baseline a figure may be, and repeats is how often it
// is measured again before it counts as worse.
const (
	tolerance = 0.10
	repeats   = 2
)

// compare runs the measurements with iamproxy and the baseline. Figures that are worse are
// measured again, since the machine may have been busy. It is an error if a figure is worse
// in each run, or lacks a value.
func (b *bench) compare(ctx context.Context, chosen []measurement) error {
	if err := b.measureAll(ctx, chosen); err != nil {
		return err
	}
	worse := worseThanBaseline(b.results)
	for range repeats {
		if len(worse) == 0 || ctx.Err() != nil {
			break
		}
		first := b.results
		b.results = results{}
		b.saying = "again"
		b.say("%s", strings.Join(worse, ", "))
		if err := b.measureAll(ctx, choose(oneOf(worse))); err != nil {
			return err
		}
		worse = both(worse, worseThanBaseline(b.results))
		b.results = first
	}
	if len(worse) > 0 {
		return worseError(worse)
	}
	return nil
}

// worseError names the figures that are worse than the baseline.
type worseError []string

func (e worseError) Error() string {
	return fmt.Sprintf("more than %.0f %% worse than the baseline in each of %d runs: %s", tolerance*100, repeats+1, strings.Join(e, ", "))
}

// worseThanBaseline returns the figures whose median ratio to the baseline is worse by more
// than the tolerance. A figure that only the baseline has is worse; one that the baseline
// lacks is new.
func worseThanBaseline(r results) []string {
	var worse []string
	for _, f := range figures {
		if r.of(f.name, baselineTarget).n == 0 {
			continue
		}
		ratio := r.ratio(f.name, iamproxyTarget, baselineTarget)
		switch {
		case ratio.n == 0,
			f.lower && ratio.median > 1+tolerance,
			!f.lower && ratio.median < 1-tolerance:
			worse = append(worse, f.name)
		}
	}
	return worse
}

// both returns the strings that are in both lists.
func both(a, b []string) []string {
	in := make(map[string]bool)
	for _, s := range b {
		in[s] = true
	}
	var common []string
	for _, s := range a {
		if in[s] {
			common = append(common, s)
		}
	}
	return common
}

// oneOf returns a pattern of the measurements of figures.
func oneOf(figures []string) *regexp.Regexp {
	return regexp.MustCompile("^(" + strings.Join(figures, "|") + ")$")
}
