package fakessm

import (
	"strings"
	"testing"
)

func TestLoss(t *testing.T) {
	for _, test := range []struct {
		loss Loss
		want string
	}{
		{Loss{}, "1 2 3 4 5 6"},
		{Loss{Lose: 1}, ""},
		{Loss{Lose: 3}, "1 2 4 5"},
		{Loss{Duplicate: 4}, "1 2 3 4 4 5 6"},
		{Loss{Reorder: 2}, "1 3 2 5 4"},
		{Loss{Lose: 3, Reorder: 2}, "1 2 5 4"},
	} {
		var l lossy
		var arrived []string
		for _, m := range strings.Fields("1 2 3 4 5 6") {
			for _, b := range l.pass(test.loss, []byte(m)) {
				arrived = append(arrived, string(b))
			}
		}
		if got := strings.Join(arrived, " "); got != test.want {
			t.Errorf("%+v: %q, want %q", test.loss, got, test.want)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"3.0.196.0", "3.0.196.0", 0}, {"3.0.222.0", "3.0.196.0", 1}, {"3.1.1511.0", "3.1.222", 1}, {"1.2", "1.2.331.0", -1}, {"2.9", "10", -1}} {
		if got := compareVersions(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
