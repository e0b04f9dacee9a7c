package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/proxy/stats"
)

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"Zürich 東京 مرحبا 🐘 <b>&":   "Zürich 東京 مرحبا 🐘 <b>&",
		"a\x00b\x1b[1m\n":          "a⟨U+0000⟩b⟨U+001B⟩[1m⟨U+000A⟩",
		"gpj\u202Eexe\u2066\u200B": "gpj⟨U+202E⟩exe⟨U+2066⟩⟨U+200B⟩",
		"\xff\xc3(":                "⟨FF⟩⟨C3⟩(",
		"\uFFFD":                   "\uFFFD",
	} {
		if got := visible(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	if got := name(strings.Repeat("é", 32)); got != (word{Text: strings.Repeat("é", 32)}) {
		t.Errorf("got %+v", got)
	}
	got := name(strings.Repeat("é", 10_000))
	if got.Text != strings.Repeat("é", 31)+"…" || got.Full != strings.Repeat("é", fullLength) {
		t.Errorf("got %+v", got)
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.FixedZone("", 7200))
	for d, want := range map[time.Duration]string{
		0: "now", 400 * time.Millisecond: "now", -time.Second: "1 s ago", 59 * time.Second: "in 59 s", -3*time.Minute - 59*time.Second: "3 min ago",
		90 * time.Minute: "in 1 h 30 min", -47 * time.Hour: "47 h 0 min ago", 400 * 24 * time.Hour: "in 400 days",
	} {
		if got := at(now.Add(d), now).Relative; got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if got := *at(now, now); got != (moment{"2026-05-01T10:00:00Z", "2026-05-01 10:00:00 UTC", "now"}) {
		t.Errorf("got %+v", got)
	}
	if at(time.Time{}, now) != nil {
		t.Error("a time that is not known is shown")
	}
}

func TestSizesAndSpans(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 99_940: "99.9 kB", 99_960: "100 kB", 999_600: "1.0 MB", 3_920_114_003: "3.9 GB", 1 << 62: "4612 PB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 ms", 340 * time.Microsecond: "0.3 ms", 26 * time.Millisecond: "26 ms", 1500 * time.Millisecond: "1.5 s"} {
		if got := short(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestChart(t *testing.T) {
	now := time.Now()
	if draw(nil, now) != nil {
		t.Error("a chart of nothing")
	}
	ms := time.Millisecond
	c := draw([]stats.LoginTimings{
		{At: now.Add(-time.Minute), Resolve: 1 * ms, Dial: 2 * ms, TLS: 3 * ms, Login: 4 * ms, Total: 12 * ms, Attempts: 1},
		{At: now, Total: 1 * ms},
		{At: now, Queue: 900 * ms, Login: 10 * ms, Total: 910 * ms, Attempts: 3},
	}, now)
	if c.Top != "50 ms" || c.Half != "25 ms" || c.Median != "12 ms" || c.Longest != "910 ms" {
		t.Errorf("scale %s, %s; median %s, longest %s", c.Top, c.Half, c.Median, c.Longest)
	}
	first, pooled, cut := c.Bars[0], c.Bars[1], c.Bars[2]
	var height float64
	for _, p := range first.Parts {
		height += p.Height
		if p.X < slots-3 || p.X > slots-2 {
			t.Errorf("the bar of the first of three stands at %v", p.X)
		}
	}
	if len(first.Parts) != 5 || height != 24 || first.Parts[4].Phase != "other" || first.Parts[4].Y != 76 {
		t.Errorf("the first bar is %+v", first)
	}
	if len(pooled.Parts) != 1 || pooled.Parts[0].Phase != "pooled" || pooled.Cut {
		t.Errorf("the second bar is %+v", pooled)
	}
	if top := cut.Parts[len(cut.Parts)-1]; !cut.Cut || top.Y < 0 || !strings.Contains(cut.Title, "3 attempts") {
		t.Errorf("the third bar is %+v", cut)
	}
	if many := draw(busyLogins(now), now); len(many.Bars) != 52 {
		t.Errorf("%d bars", len(many.Bars))
	}
}
