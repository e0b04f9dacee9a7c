package retry

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// sharedFigures matches the rows of the tables of docs/fleet.md about shared proxies.
var sharedFigures = regexp.MustCompile(`(?m)^\| (\d+ prox\w+, [^|]*) \| ([\d,]+) s \| ([\d,]+) s \| ([\d,]+) s \| ([\d,]+) \| ([\d,]+) \|$`)

// TestShared prints the figures of docs/fleet.md, and compares them: go test -run TestShared -v
// ./proxy/retry
//
// In each of them, 2,000 clients of 20 database users connect within a second, as after a failover.
func TestShared(t *testing.T) {
	const clients, whole = 2000, 150
	page, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := sharedFigures.FindAllStringSubmatch(string(page), -1)
	// half puts half of the clients at the first proxy.
	half := func(proxies int) []int {
		return slices.Concat([]int{clients / 2}, even(proxies-1, clients/2/(proxies-1)))
	}
	tests := []struct {
		name    string
		clients []int
		rate    float64
	}{
		{"1 proxy, 150 each", even(1, clients), whole},
		{"2 proxies, 75 each", even(2, clients/2), whole / 2},
		{"5 proxies, 30 each", even(5, clients/5), whole / 5},
		{"10 proxies, 15 each", even(10, clients/10), whole / 10},
		{"50 proxies, 3 each", even(50, clients/50), whole / 50},
		{"2 proxies, 150 each", even(2, clients/2), whole},
		{"5 proxies, 150 each", even(5, clients/5), whole},
		{"10 proxies, 150 each", even(10, clients/10), whole},
		{"50 proxies, 150 each", even(50, clients/50), whole},
		{"10 proxies, 150 each, refused logins count", even(10, clients/10), whole},
		{"5 proxies, 40 each", even(5, clients/5), 40},
		{"5 proxies, 75 each", even(5, clients/5), whole / 2},
		{"2 proxies, 75 each, half of the clients at one", half(2), whole / 2},
		{"3 proxies, 50 each, half of the clients at one", half(3), whole / 3},
		{"5 proxies, 30 each, half of the clients at one", half(5), whole / 5},
		{"10 proxies, 15 each, half of the clients at one", half(10), whole / 10},
		{"5 proxies, 75 each, half of the clients at one", half(5), whole / 2},
		{"10 proxies, 150 each, half of the clients at one", half(10), whole},
	}
	if len(rows) != len(tests) {
		t.Errorf("docs/fleet.md has %d rows with figures, want %d", len(rows), len(tests))
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fleet{clients: test.clients, users: 20, rate: test.rate, timeout: timeout, running: true, limit: 200, countRefused: strings.HasSuffix(test.name, "refused logins count")}
			o := f.run(t)
			seconds := func(d time.Duration) int { return int(d.Round(time.Second).Seconds()) }
			got := []int{seconds(o.in[len(o.in)/2]), seconds(o.done[0]), seconds(o.done[len(o.done)-1]), o.attempts - len(o.in), o.failures}
			t.Log(got)
			if i >= len(rows) {
				return
			}
			if rows[i][1] != test.name {
				t.Errorf("docs/fleet.md has %q", rows[i][1])
			}
			compareFigures(t, rows[i][1:], got, []int{1, 1, 2, 50, 30})
		})
	}
}
