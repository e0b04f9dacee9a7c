package admin

import (
	"strings"
	"testing"
	"time"
)

func TestEscapeInvisible(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"Zürich 東京 مرحبا 🐘 <b>&":   "Zürich 東京 مرحبا 🐘 <b>&",
		"a\x00b\x1b[1m\n":          "a⟨U+0000⟩b⟨U+001B⟩[1m⟨U+000A⟩",
		"gpj\u202Eexe\u2066\u200B": "gpj⟨U+202E⟩exe⟨U+2066⟩⟨U+200B⟩",
		"\xff\xc3(":                "⟨FF⟩⟨C3⟩(",
		"\uFFFD":                   "\uFFFD",
	} {
		if got := escapeInvisible(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestFormatName(t *testing.T) {
	if got := formatName(strings.Repeat("é", 32)); got != (excerpt{Text: strings.Repeat("é", 32)}) {
		t.Errorf("got %+v", got)
	}
	got := formatName(strings.Repeat("é", 10_000))
	if got.Text != strings.Repeat("é", 31)+"…" || got.Full != strings.Repeat("é", maxFull) {
		t.Errorf("got %+v", got)
	}
}

func TestTimestamp(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.FixedZone("", 7200))
	for d, want := range map[time.Duration]string{
		2*time.Minute + 9*time.Second: "in 2 min 9 s", 0: "now", 400 * time.Millisecond: "now", -time.Second: "1 s ago", 59 * time.Second: "in 59 s", -3*time.Minute - 59*time.Second: "3 min ago",
		90 * time.Minute: "in 1 h 30 min", -47 * time.Hour: "47 h 0 min ago", 400 * 24 * time.Hour: "in 400 days",
	} {
		if got := newTimestamp(now.Add(d), now).Relative; got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if got := *newTimestamp(now, now); got != (timestamp{"2026-05-01T10:00:00Z", "2026-05-01 10:00:00 UTC", "now"}) {
		t.Errorf("got %+v", got)
	}
	if newTimestamp(time.Time{}, now) != nil {
		t.Error("the zero time has a timestamp")
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 ms", 340 * time.Microsecond: "0.3 ms", 26 * time.Millisecond: "26 ms", 1500 * time.Millisecond: "1.5 s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
