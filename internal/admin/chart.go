package admin

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

const (
	// slots is how many logins there is room for; the last one is at the right.
	slots = 60
	// clip is how many times the median the scale has, at most: one login that waited
	// for a failover would make all the others invisible.
	clip = 4
)

// chart is how long the last logins took, a bar for each, a part for each phase. Its
// coordinates are slots to the right, and hundredths of its height from the top.
type chart struct {
	Slots           int
	Bars            []bar
	Top, Half       string // of the scale
	Median, Longest string
	Phases          []phase // what the colors mean
	Says            string  // all that, for those who do not see it
	From, To        *moment
}

type bar struct {
	Title string
	Parts []part
	Cut   bool // it is higher than the chart
	X     float64
}

type part struct {
	Phase  string
	X, Y   float64
	Height float64
}

type phase struct{ Name, Median string }

// phasesOf are a login's, from the bottom up. What it took beside them was spent on
// attempts that failed, or on the client.
func phasesOf(l stats.LoginTimings) []time.Duration {
	all := []time.Duration{l.Queue, l.Resolve, l.Dial, l.TLS, l.Login}
	rest := l.Total
	for _, d := range all {
		rest -= d
	}
	return append(all, max(rest, 0))
}

var phaseNames = []string{"queue", "resolve", "dial", "tls", "login", "other"}

// draw is nil if there was no login so far.
func draw(logins []stats.LoginTimings, now time.Time) *chart {
	if len(logins) == 0 {
		return nil
	}
	logins = logins[max(0, len(logins)-slots):]
	var totals []time.Duration
	steps := make([][]time.Duration, len(phaseNames))
	for _, l := range logins {
		totals = append(totals, l.Total)
		if l.Attempts == 0 {
			continue
		}
		for i, d := range phasesOf(l) {
			steps[i] = append(steps[i], d)
		}
	}
	middle, longest := median(totals), slices.Max(totals)
	top := roundUp(min(longest, clip*max(middle, time.Millisecond)))
	c := &chart{
		Slots: slots, Top: short(top), Half: short(top / 2), Median: short(middle), Longest: short(longest),
		From: at(logins[0].At, now), To: at(logins[len(logins)-1].At, now),
	}
	for i, l := range logins {
		c.Bars = append(c.Bars, barOf(l, float64(slots-len(logins)+i), top, now))
	}
	pooled := len(logins) - len(steps[0])
	c.Says = fmt.Sprintf("The last %s: half of them took no more than %s, the longest %s.", count(len(logins), "login"), c.Median, c.Longest)
	if pooled < len(logins) {
		for i, name := range phaseNames {
			c.Phases = append(c.Phases, phase{name, short(median(steps[i]))})
		}
	}
	if pooled > 0 {
		c.Phases = append(c.Phases, phase{"pooled", fmt.Sprintf("%d of %d", pooled, len(logins))})
		c.Says += fmt.Sprintf(" %d got a connection of the pool.", pooled)
	}
	return c
}

func barOf(l stats.LoginTimings, x float64, top time.Duration, now time.Time) bar {
	b := bar{X: x + .1, Cut: l.Total > top}
	names, steps := phaseNames, phasesOf(l)
	if l.Attempts == 0 {
		names, steps = []string{"pooled"}, []time.Duration{l.Total}
	}
	title := []string{short(l.Total) + ", " + relative(l.At, now)}
	y := 100.0
	for i, d := range steps {
		if d <= 0 {
			continue
		}
		title = append(title, names[i]+" "+short(d))
		height := min(float64(d)/float64(top)*100, y)
		y -= height
		b.Parts = append(b.Parts, part{Phase: names[i], X: b.X, Y: round(y), Height: round(height)})
	}
	if l.Attempts > 1 {
		title = append(title, fmt.Sprintf("%d attempts", l.Attempts))
	}
	b.Title = strings.Join(title, "\n")
	return b
}

func median(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)-1)/2]
}

// roundUp is the next duration that is a round number, and so is half of it.
func roundUp(d time.Duration) time.Duration {
	unit := math.Pow10(int(math.Floor(math.Log10(max(float64(d), float64(time.Millisecond))))))
	for _, n := range []float64{1, 1.2, 1.6, 2, 3, 4, 5, 6, 8} {
		if rounded := time.Duration(n * unit); rounded >= d {
			return rounded
		}
	}
	return time.Duration(10 * unit)
}

func round(x float64) float64 { return math.Round(x*100) / 100 }
