package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

func TestChart(t *testing.T) {
	now := time.Now()
	if newChart(nil, now) != nil {
		t.Error("no logins have a chart")
	}
	ms := time.Millisecond
	c := newChart([]stats.LoginTimings{
		{At: now.Add(-time.Minute), Resolve: 1 * ms, Dial: 2 * ms, TLS: 3 * ms, Login: 4 * ms, Total: 12 * ms, Attempts: 1},
		{At: now, Total: 1 * ms},
		{At: now, Queue: 900 * ms, Login: 10 * ms, Total: 910 * ms, Attempts: 3},
	}, now)
	if c.Top != "50 ms" || c.Half != "25 ms" || c.Median != "12 ms" || c.Longest != "910 ms" {
		t.Errorf("scale %s, %s; median %s, longest %s", c.Top, c.Half, c.Median, c.Longest)
	}
	first, pooled, clipped := c.Bars[0], c.Bars[1], c.Bars[2]
	var height float64
	for _, p := range first.Segments {
		height += p.Height
		if p.X < maxBars-3 || p.X > maxBars-2 {
			t.Errorf("the first of three bars is at %v", p.X)
		}
	}
	if len(first.Segments) != 5 || height != 24 || first.Segments[4].Phase != "other" || first.Segments[4].Y != 76 {
		t.Errorf("the first bar is %+v", first)
	}
	if len(pooled.Segments) != 1 || pooled.Segments[0].Phase != "pooled" || pooled.Cut {
		t.Errorf("the second bar is %+v", pooled)
	}
	if top := clipped.Segments[len(clipped.Segments)-1]; !clipped.Cut || top.Y < 0 || !strings.Contains(clipped.Title, "3 attempts") {
		t.Errorf("the third bar is %+v", clipped)
	}
	pool := []stats.LoginTimings{{At: now, Total: ms / 10}, {At: now, Total: ms / 10}, {At: now, Login: 20 * ms, Total: 20 * ms, Attempts: 1}}
	if c := newChart(pool, now); c.Top != "20 ms" || len(c.Cut) > 0 {
		t.Errorf("with a pool: scale %s, %d bars are cut", c.Top, len(c.Cut))
	}
	if many := newChart(busyLogins(now), now); len(many.Bars) != 52 {
		t.Errorf("%d bars", len(many.Bars))
	}
}

// The label of the first bar is at that bar, and bars that are cut have their durations.
func TestChartLabels(t *testing.T) {
	now := time.Now()
	logins := func(n int, slow ...int) (all []stats.LoginTimings) {
		for i := range n {
			l := stats.LoginTimings{At: now.Add(time.Duration(i-n) * time.Minute), Total: 10 * time.Millisecond}
			if slices.Contains(slow, i) {
				l.Total = time.Second + time.Duration(i)*time.Millisecond*100
			}
			all = append(all, l)
		}
		return all
	}
	for name, test := range map[string]struct {
		logins    []stats.LoginTimings
		ages, cut []label
	}{
		"full":     {logins(60), []label{{0, "start", "1 h 0 min ago"}, {100, "end", "1 min ago"}}, nil},
		"half":     {logins(45), []label{{25, "start", "45 min ago"}, {100, "end", "1 min ago"}}, nil},
		"a few":    {logins(3), []label{{100, "end", "3 min ago to 1 min ago"}}, nil},
		"one":      {logins(1), []label{{100, "end", "1 min ago"}}, nil},
		"cut":      {logins(60, 0, 30, 59), []label{{0, "start", "1 h 0 min ago"}, {100, "end", "1 min ago"}}, []label{{100, "end", "6.9 s"}, {50.83, "middle", "4.0 s"}, {0, "start", "1.0 s"}}},
		"too near": {logins(60, 30, 31, 37, 40), []label{{0, "start", "1 h 0 min ago"}, {100, "end", "1 min ago"}}, []label{{67.5, "middle", "5.0 s"}, {52.5, "middle", "4.1 s"}}},
	} {
		c := newChart(test.logins, now)
		if !slices.Equal(c.Ages, test.ages) || !slices.Equal(c.Cut, test.cut) {
			t.Errorf("%s: ages %v, cut %v; want %v, %v", name, c.Ages, c.Cut, test.ages, test.cut)
		}
	}
}
