package age

import (
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
)

// An age includes suspensions, and does not shrink when the wall clock is set back.
func TestAt(t *testing.T) {
	now := time.Now()
	suspended := now.Add(-time.Second)
	agetest.Suspend(&suspended, time.Hour)
	for name, test := range map[string]struct {
		t    time.Time
		want time.Duration
	}{
		"running":         {now.Add(-time.Second), time.Second},
		"suspended":       {suspended, time.Hour + time.Second},
		"wall clock only": {now.Add(-time.Minute).Round(0), time.Minute},
		"to come":         {now.Add(time.Minute), -time.Minute},
		"never":           {time.Time{}, now.Sub(time.Time{})},
	} {
		if got := At(now, test.t); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	stepped := now // the wall clock is set back by an hour, and a second passes
	agetest.Suspend(&stepped, time.Hour)
	if got := At(stepped.Add(time.Second), now); got != time.Second {
		t.Errorf("set back: %v", got)
	}
	if got := Of(suspended); got < time.Hour || got > time.Hour+time.Minute {
		t.Errorf("Of: %v", got)
	}
}
