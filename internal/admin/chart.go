package admin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

const (
	// maxBars is the number of logins in the chart; the newest is at the right.
	maxBars = 60
	// maxScale limits the scale to a multiple of the median, so that one slow login does not
	// flatten all others. Longer bars are cut.
	maxScale = 4
	// labelWidth is the number of bars that the label of a cut bar is as wide as, on a phone.
	labelWidth = 8
	// maxFrom is the position, in percent, up to which the first bar has a label for its age:
	// further to the right there is only room for the label of the last one.
	maxFrom = 40
)

// chart shows the durations of the last logins: a bar for each login, a segment for each
// phase. Its coordinates are bars to the right, and percentages of its height from the top.
type chart struct {
	Width           int
	Bars            []bar
	Top, Half       string // labels of the scale
	Median, Longest string
	Legend          []legendEntry
	Description     string  // for screen readers
	Ages            []label // of the first and the last bar
	Cut             []label // durations of bars that are cut
}

// label is a text beside the chart. X is a percentage of its width.
type label struct {
	X     float64
	Class string
	Text  string
}

type bar struct {
	Title    string
	Segments []segment
	Cut      bool
	X        float64
}

type segment struct {
	Phase  string
	X, Y   float64
	Height float64
}

type legendEntry struct{ Name, Median string }

var phaseNames = []string{"queue", "resolve", "dial", "tls", "login", "other"}

// phaseDurations returns the durations of a login's phases, in the order of phaseNames. The
// last is the rest of the total: failed attempts, and waiting for the client.
func phaseDurations(l stats.LoginTimings) []time.Duration {
	durations := []time.Duration{l.Queue, l.Resolve, l.Dial, l.TLS, l.Login}
	rest := l.Total
	for _, d := range durations {
		rest -= d
	}
	return append(durations, max(rest, 0))
}

// newChart returns nil if there are no logins.
func newChart(logins []stats.LoginTimings, now time.Time) *chart {
	if len(logins) == 0 {
		return nil
	}
	logins = logins[max(0, len(logins)-maxBars):]
	var totals, complete []time.Duration
	phases := make([][]time.Duration, len(phaseNames)) // of logins that were not pooled
	for _, l := range logins {
		totals = append(totals, l.Total)
		if l.Attempts == 0 {
			continue
		}
		complete = append(complete, l.Total)
		for i, d := range phaseDurations(l) {
			phases[i] = append(phases[i], d)
		}
	}
	middle, longest := median(totals), slices.Max(totals)
	typical := middle
	if len(complete) > 0 { // logins on connections of the pool are far shorter
		typical = median(complete)
	}
	top := roundUp(min(longest, maxScale*max(typical, time.Millisecond)))
	c := &chart{
		Width: maxBars, Top: formatDuration(top), Half: formatDuration(top / 2), Median: formatDuration(middle), Longest: formatDuration(longest),
		Ages: ageLabels(logins, now), Cut: cutLabels(logins, top),
	}
	for i, l := range logins {
		c.Bars = append(c.Bars, newBar(l, float64(slotOf(i, len(logins))), top, now))
	}
	pooled := len(logins) - len(phases[0])
	c.Description = fmt.Sprintf("The last %s: half of them took %s or less, the longest %s.", text.Plural(len(logins), "login"), c.Median, c.Longest)
	if pooled < len(logins) {
		for i, name := range phaseNames {
			c.Legend = append(c.Legend, legendEntry{name, formatDuration(median(phases[i]))})
		}
	}
	if pooled > 0 {
		c.Legend = append(c.Legend, legendEntry{"pooled", fmt.Sprintf("%d of %d", pooled, len(logins))})
		c.Description += fmt.Sprintf(" %d used a connection of the pool.", pooled)
	}
	return c
}

// slotOf returns the position of bar i of n: the newest is at the right.
func slotOf(i, n int) int { return maxBars - n + i }

func percent(slot float64) float64 { return round(slot / maxBars * 100) }

// ageLabels returns the ages of the first and the last bar, or one label of both if there is no
// room for two.
func ageLabels(logins []stats.LoginTimings, now time.Time) []label {
	first, last := relative(logins[0].At, now), relative(logins[len(logins)-1].At, now)
	from := percent(float64(slotOf(0, len(logins))))
	switch {
	case from <= maxFrom:
		return []label{{from, "start", first}, {100, "end", last}}
	case first != last:
		last = first + " to " + last
	}
	return []label{{100, "end", last}}
}

// cutLabels returns the durations of bars longer than top. Where bars are too close to each
// other for their labels, the longest has one.
func cutLabels(logins []stats.LoginTimings, top time.Duration) (labels []label) {
	var cut []int
	for i, l := range logins {
		if l.Total > top {
			cut = append(cut, i)
		}
	}
	slices.SortStableFunc(cut, func(a, b int) int { return cmp.Compare(logins[b].Total, logins[a].Total) })
	var labeled []int
	for _, i := range cut {
		if slices.ContainsFunc(labeled, func(other int) bool { return max(i-other, other-i) < labelWidth }) {
			continue
		}
		labeled = append(labeled, i)
		slot, class := slotOf(i, len(logins)), "middle"
		switch {
		case slot < labelWidth/2:
			class = "start"
		case slot >= maxBars-labelWidth/2:
			class = "end"
		}
		x := map[string]float64{"start": float64(slot), "middle": float64(slot) + .5, "end": float64(slot) + 1}[class]
		labels = append(labels, label{percent(x), class, formatDuration(logins[i].Total)})
	}
	return labels
}

func newBar(l stats.LoginTimings, x float64, top time.Duration, now time.Time) bar {
	b := bar{X: x + .1, Cut: l.Total > top}
	names, durations := phaseNames, phaseDurations(l)
	if l.Attempts == 0 {
		names, durations = []string{"pooled"}, []time.Duration{l.Total}
	}
	title := []string{formatDuration(l.Total) + ", " + relative(l.At, now)}
	y := 100.0
	for i, d := range durations {
		if d <= 0 {
			continue
		}
		title = append(title, names[i]+" "+formatDuration(d))
		height := min(float64(d)/float64(top)*100, y)
		y -= height
		b.Segments = append(b.Segments, segment{Phase: names[i], X: b.X, Y: round(y), Height: round(height)})
	}
	if l.Attempts > 1 {
		title = append(title, fmt.Sprintf("%d attempts", l.Attempts))
	}
	b.Title = strings.Join(title, "\n")
	return b
}

func median(durations []time.Duration) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[(len(sorted)-1)/2]
}

// roundUp returns the next duration that is a round number and has a round half.
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
