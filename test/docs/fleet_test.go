package docs

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/limits"
)

// taskSize matches a row of the table of docs/fleet.md about task sizes, and perVCPU the rows from
// which it follows.
var (
	taskSize = regexp.MustCompile(`(?m)^\| ([\d.]+) vCPU, (\d+) (MiB|GiB) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$`)
	perVCPU  = regexp.MustCompile(`(?m)^\| (queries per second, 1 client at a time|COPY TO, MB/s) \| [\d,]+ \| ([\d,]+) \|$`)
)

// TestTaskSizes compares the sizes of docs/fleet.md with the memory of a session, the open files of
// Fargate and what one vCPU carries.
func TestTaskSizes(t *testing.T) {
	page := read(t, "docs/fleet.md")
	rates := perVCPU.FindAllStringSubmatch(page, -1)
	rows := taskSize.FindAllStringSubmatch(page, -1)
	if len(rates) != 2 || len(rows) < 4 {
		t.Fatalf("docs/fleet.md has %d rates and %d sizes", len(rates), len(rows))
	}
	most := float64(limits.Allocate(65535, 1, 0).Sessions)
	for _, row := range rows {
		cpus, memory := number(t, row[1]), number(t, row[2])
		if row[3] == "GiB" {
			memory *= 1024
		}
		for i, want := range []float64{min(most, (memory-32)*1024/192), cpus * number(t, rates[0][2]), cpus * number(t, rates[1][2])} {
			if got := number(t, row[4+i]); got > want || got < want*0.95 {
				t.Errorf("%s: %v, want %v", row[0], got, want)
			}
		}
	}
}

// TestRatesPerVCPU compares what one vCPU carries in a sidecar, on docs/fleet.md, with docs/performance.md.
func TestRatesPerVCPU(t *testing.T) {
	fleet, performance := read(t, "docs/fleet.md"), read(t, "docs/performance.md")
	figure := func(page, row string, column int) float64 {
		t.Helper()
		match := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + ` +\| ([\d,]+) +\| ([\d,]+) +\|$`).FindStringSubmatch(page)
		if match == nil {
			t.Fatalf("no row %q", row)
		}
		return number(t, match[column])
	}
	for row, want := range map[string]float64{
		"queries per second, 1 client at a time": 1e6 / figure(performance, "CPU time per query, 1 client, µs", 2),
		"queries per second, 8 busy clients":     1e6 / figure(performance, "CPU time per query, 8 clients, µs", 2),
		"COPY TO, MB/s":                          figure(performance, "COPY TO, MB/s per vCPU", 2),
		"COPY FROM, MB/s":                        figure(performance, "COPY FROM, MB/s per vCPU", 2),
	} {
		if got := figure(fleet, row, 1); got < want*0.9 || got > want*1.1 {
			t.Errorf("%s: docs/fleet.md has %v, docs/performance.md %.0f", row, got, want)
		}
	}
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
