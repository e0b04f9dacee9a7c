package retry

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// sharedFigures matches the rows of the tables of docs/fleet.md about shared proxies: the fleet, which
// is the first group, its parts, and its figures.
var sharedFigures = regexp.MustCompile(`(?m)^\| ((\d+) prox\w+, (\d+) each(, half of the clients at one)?(, refused logins count)?) \| ([\d,]+) s \| ([\d,]+) s \| ([\d,]+) s \| ([\d,]+) \| ([\d,]+) \|$`)

// TestShared prints the figures of docs/fleet.md, and compares them: go test -run TestShared -v
// ./proxy/retry
//
// In each of them, 2,000 clients of 20 database users connect within a second, as after a failover.
func TestShared(t *testing.T) {
	const clients = 2000
	page, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := sharedFigures.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 10 {
		t.Errorf("docs/fleet.md has %d rows with figures", len(rows))
	}
	for _, row := range rows {
		t.Run(row[1], func(t *testing.T) {
			proxies, err := strconv.Atoi(row[2])
			if err != nil {
				t.Fatal(err)
			}
			rate, err := strconv.ParseFloat(row[3], 64)
			if err != nil {
				t.Fatal(err)
			}
			f := fleet{clients: even(proxies, clients/proxies), users: 20, rate: rate, timeout: timeout, running: true, limit: 200, countRefused: row[5] != ""}
			if row[4] != "" {
				f.clients = slices.Concat([]int{clients / 2}, even(proxies-1, clients/2/(proxies-1)))
			}
			o := f.run(t)
			seconds := func(d time.Duration) int { return int(d.Round(time.Second).Seconds()) }
			got := []int{seconds(o.in[len(o.in)/2]), seconds(o.done[0]), seconds(o.done[len(o.done)-1]), o.attempts - len(o.in), o.failures}
			t.Log(got)
			slack := []int{1, 1, 2, 50, 30}
			if f.countRefused { // by chance, more logins collide
				slack[4] = 100
			}
			compareFigures(t, slices.Concat(row[1:2], row[6:]), got, slack)
		})
	}
}
