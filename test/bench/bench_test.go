//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   summary
	}{
		{nil, summary{}},
		{[]float64{math.NaN(), math.Inf(1)}, summary{}},
		{[]float64{3, 1, 2}, summary{3, 2, 1, 3}},
		{[]float64{4, 1, math.NaN(), 2, 3}, summary{4, 2.5, 1, 4}},
	} {
		if got := summarize(test.values); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.values, got, test.want)
		}
	}
}

// A ratio is of two values of one round, even if a round lacks one.
func TestRatio(t *testing.T) {
	r := results{}
	for round, pair := range [][2]float64{{10, 5}, {100, 25}, {3, 1}} {
		r.add("f", "a", round, pair[0])
		if round != 1 {
			r.add("f", "b", round, pair[1])
		}
	}
	if got, want := r.ratio("f", "a", "b"), (summary{2, 2.5, 2, 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := r.ratio("f", "a", "c"); got.n != 0 {
		t.Errorf("of nothing: %+v", got)
	}
	if got := medianDifference([]float64{5, 7, 9}, []float64{4, 4, 4}); got != 3 {
		t.Errorf("difference %v", got)
	}
}

func TestGoals(t *testing.T) {
	r := results{}
	r.add("f", iamproxyTarget, 0, 12)
	r.add("f", pgbouncerTarget, 0, 10)
	for _, test := range []struct {
		goal       goal
		met, known bool
	}{
		{atLeast(1.2, pgbouncerTarget), true, true},
		{atLeast(1.3, pgbouncerTarget), false, true},
		{atMostOfPgbouncer(1.2), true, true},
		{atMostOfPgbouncer(1.1), false, true},
		{atMost(12, "MiB"), true, true},
		{atMost(11, "MiB"), false, true},
		{atLeast(1, directTarget), false, false},
	} {
		if met, known := r.reached("f", iamproxyTarget, test.goal); met != test.met || known != test.known {
			t.Errorf("%s: met %v, known %v", test.goal, met, known)
		}
	}
}

func TestTable(t *testing.T) {
	r := results{}
	for round, value := range []float64{10_000, 12_000, 11_000} {
		r.add("select-8", pgbouncerTarget, round, value/2)
		r.add("select-8", iamproxyTarget, round, value)
	}
	r.add("select-8", directTarget, 0, 20_000)
	r.add("rest", iamproxyTarget, 0, 25.04)
	got := table(r, []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget}})
	for _, want := range []string{
		"| 20,000 | 5,500     | 11,000   | 0.50              | 2.00 (2.00–2.00)     |",
		"| met, missed |",
		"| –      | –         | 25.0     |",
		"≤ 20 MiB ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "copy-in") {
		t.Errorf("a row without figures:\n%s", got)
	}
	if got, want := score(r), "1 of 3 goals are met."; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestThousands(t *testing.T) {
	for want, value := range map[string]float64{"0.0": 0, "999.9": 999.94, "1,000.0": 999.96, "-1,234,567.0": -1234567} {
		if got := thousands(value, 1); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

func TestParsePgbench(t *testing.T) {
	const good = `number of transactions actually processed: 1200
number of failed transactions: 0 (0.000%)
latency average = 1.5 ms
average connection time = 4.25 ms
tps = 812.5 (including reconnection times)
`
	got, err := parsePgbench(good)
	if want := (pgbenchReport{transactions: 1200, tps: 812.5, connect: 4.25}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for name, bad := range map[string]string{
		"failed":      strings.Replace(good, "failed transactions: 0", "failed transactions: 3", 1),
		"did nothing": strings.Replace(good, "processed: 1200", "processed: 0", 1),
		"nothing":     "",
	} {
		if _, err := parsePgbench(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProcessFiles(t *testing.T) {
	if got, err := parseResident("0-f ---p 00000000 00:00 0 [rollup]\nRss:             1234 kB\nPss: 1 kB\n"); err != nil || got != 1234 {
		t.Errorf("resident: %v, %v", got, err)
	}
	if _, err := parseResident("nothing"); err == nil {
		t.Error("resident: no error")
	}
	if got, err := parseCPU("7 (a ) b) S 1 7 7 0 -1 4 5 0 0 0 150 50 0 0 20 0 1 0 3"); err != nil || got != 2 {
		t.Errorf("cpu: %v, %v", got, err)
	}
	if _, err := parseCPU("7 (a) S 1"); err == nil {
		t.Error("cpu: no error")
	}
	if got, err := fineCPU(os.Getpid()); err != nil || got <= 0 {
		t.Errorf("fine cpu: %v, %v", got, err)
	}
}

// Each figure is added by a measurement, and vice versa.
func TestFiguresAndMeasurements(t *testing.T) {
	var added, shown []string
	for _, m := range measurements() {
		added = append(added, m.figures...)
	}
	for _, f := range figures {
		shown = append(shown, f.name)
	}
	slices.Sort(added)
	added = slices.Compact(added) // crowd is in two measurements
	slices.Sort(shown)
	if !slices.Equal(added, shown) {
		t.Errorf("added %v, shown %v", added, shown)
	}
}

func TestChoice(t *testing.T) {
	for pattern, want := range map[string]string{
		"^cpu": "select-1 select-8 select-32", "^connect$": "connect", "^copy": "copy-out copy-in",
		"crowd": "crowd", "scale": "scale", "crowd|scale": "scale", "le$": "idle scale",
	} {
		var got []string
		for _, m := range choose(regexp.MustCompile(pattern)) {
			got = append(got, m.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", pattern, got, want)
		}
	}
	for name, o := range map[string]options{
		"matches none": {only: "no such", rounds: 1},
		"-only":        {only: "(", rounds: 1},
		"-rounds":      {only: "rest"},
		"-write":       {only: "rest", rounds: 1, page: "p"},
		"no --pool":    {only: "connect-pool", rounds: 1, binary: "/bin/true"},
	} {
		if _, err := o.check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLatencies(t *testing.T) {
	got, err := parseLatencies("0 1 1500 0 1700000000 5 12\n1 1 250 0 1700000000 9 0\n")
	if err != nil || !slices.Equal(got, []float64{1.5, 0.25}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"0 1", "0 1 failed 0 1 2"} {
		if _, err := parseLatencies(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	if got := percentile(hundred, 99); got != 99 {
		t.Errorf("99 of 100: %v", got)
	}
	if got := percentile([]float64{7}, 99); got != 7 {
		t.Errorf("of one: %v", got)
	}
	if got := mean(hundred); got != 50.5 {
		t.Errorf("mean %v", got)
	}
}

// The plot is well-formed and has no NaN, whatever is missing.
func TestPlot(t *testing.T) {
	targets := []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget}}
	points := map[string][]point{
		directTarget:   {{10, math.NaN(), math.NaN(), 0.3, 1}, {5000, math.NaN(), math.NaN(), 0.5, 2}},
		iamproxyTarget: {{10, 14, 0, 0.3, 1}, {5000, 90, 0.25, 0.5, 2}},
	}
	svg := plot(panels(points, targets))
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || strings.Contains(svg, pgbouncerTarget) {
		t.Errorf("the plot has missing values:\n%s", svg)
	}
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	got := scaleTable(points, targets)
	for _, want := range []string{"| 10    | 5,000 |", "| 14.0  | 90.0  |"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "NaN") {
		t.Errorf("the table has missing values:\n%s", got)
	}
}

func TestAxis(t *testing.T) {
	a := newAxis([]float64{20, 800}, 0, 100)
	if got := a.place(100); got != 50 {
		t.Errorf("100 is at %v", got)
	}
	if got := a.ticks(); !slices.Equal(got, []float64{10, 100, 1000}) {
		t.Errorf("ticks %v", got)
	}
	if a := newAxis([]float64{0}, 0, 100); a.place(0) != 0 || len(a.ticks()) != 2 {
		t.Errorf("of zero: %+v", a)
	}
}

// Each target is first as often as any other.
func TestRotate(t *testing.T) {
	targets := []target{{name: "a"}, {name: "b"}, {name: "c"}}
	var order string
	for round := range 4 {
		for _, target := range rotate(targets, round) {
			order += target.name
		}
	}
	if order != "abcbcacababc" {
		t.Error(order)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// allResults returns a value of 10 for each figure and target, and two points.
func allResults(targets []target) (results, map[string][]point) {
	r, points := results{}, make(map[string][]point)
	for _, t := range targets {
		for _, f := range figures {
			r.add(f.name, t.name, 0, 10)
		}
		points[t.name] = []point{{10, 21, 0, 0.3, 1}, {5000, 109, 0.25, 0.5, 2}}
	}
	return r, points
}

// The page has places for all results, and a link to the plot.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "performance.md")
	write(t, file, string(text))
	b := &bench{targets: []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget}}}
	b.results, b.points = allResults(b.targets)
	if err := b.writePage(file, "Measured here.\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"](performance/scale.svg)", "Measured here.", "One vCPU relays about 100,000 queries", "109.0 MiB with 5,000.", "100 active clients reach 10.00 of"}
	for _, f := range figures {
		if f.part != noTable {
			wanted = append(wanted, "| "+f.title+" ")
		}
	}
	for _, want := range wanted {
		if !strings.Contains(string(got), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "performance/scale.svg")); err != nil {
		t.Error(err)
	}
}

// A table of the page has no column without values, and no figure of another table.
func TestPartTable(t *testing.T) {
	targets := []target{{name: directTarget}, {name: iamproxyTarget}}
	r := results{}
	r.add("rest", iamproxyTarget, 0, 25)
	r.add("select-1", iamproxyTarget, 0, 25)
	const want = "| Measurement                 | iamproxy |\n"
	if got := partTable(r, targets, needs); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 3 {
		t.Errorf("got\n%s", got)
	}
}

// A container has 32 MiB, and for each session 128 KiB, or 192 KiB with TLS.
func TestContainerSizes(t *testing.T) {
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) MiB \| ([\d,]+) \| ([\d,]+) \|$`)
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 4 {
		t.Errorf("%d rows", len(rows))
	}
	number := func(text string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, r := range rows {
		limit, plain, withTLS := number(r[1])<<10, number(r[2]), number(r[3])
		for _, need := range []int{32<<10 + 128*plain, 32<<10 + 192*withTLS} {
			if need > limit || need < limit*9/10 {
				t.Errorf("%s: %d KiB are needed", r[0], need)
			}
		}
	}
}
