package admin

import (
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
	if len(pooled.Segments) != 1 || pooled.Segments[0].Phase != "pooled" || pooled.Clipped {
		t.Errorf("the second bar is %+v", pooled)
	}
	if top := clipped.Segments[len(clipped.Segments)-1]; !clipped.Clipped || top.Y < 0 || !strings.Contains(clipped.Title, "3 attempts") {
		t.Errorf("the third bar is %+v", clipped)
	}
	if many := newChart(busyLogins(now), now); len(many.Bars) != 52 {
		t.Errorf("%d bars", len(many.Bars))
	}
}
