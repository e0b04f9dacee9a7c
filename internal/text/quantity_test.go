package text

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 ms", 1234 * time.Microsecond: "1.2 ms", 222 * time.Millisecond: "222 ms", 1640 * time.Millisecond: "1.6 s",
		25 * time.Second: "25 s", 252 * time.Second: "4 min 12 s", 125 * time.Minute: "2 h 5 min", 50 * time.Hour: "2 days",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 99_940: "99.9 kB", 99_960: "100 kB", 999_600: "1.0 MB", 3_920_114_003: "3.9 GB", 1 << 62: "4612 PB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
