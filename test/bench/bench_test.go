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
	if got, want := r.difference("f", "a", "b"), (summary{2, 3.5, 2, 5}); got != want {
		t.Errorf("difference: %+v, want %+v", got, want)
	}
}

func TestGoals(t *testing.T) {
	r := results{}
	r.add("f", iamproxyTarget, 0, 12)
	r.add("f", pgbouncerTarget, 0, 10)
	r.add("f-quarter", iamproxyTarget, 0, 4)
	r.add("f-quarter", pgbouncerTarget, 0, 4)
	higher, lower := figure{name: "f"}, figure{name: "f-quarter", lower: true}
	for _, test := range []struct {
		of         figure
		goal       func(figure) goal
		value      float64
		met, known bool
	}{
		{higher, atLeastOf(1.2, pgbouncerTarget), 1.2, true, true},
		{higher, atLeastOf(1.3, pgbouncerTarget), 1.2, false, true},
		{higher, atMostOf(1.2, pgbouncerTarget), 1.2, true, true},
		{higher, atMostOf(1.1, pgbouncerTarget), 1.2, false, true},
		{higher, atMost(12, "MiB"), 12, true, true},
		{higher, atMost(11, "MiB"), 12, false, true},
		{higher, atMostMore(2, "ms", pgbouncerTarget), 2, true, true},
		{higher, atMostMore(1.9, "ms", pgbouncerTarget), 2, false, true},
		{higher, atLeastOf(1, directTarget), 0, false, false},
		// It was 1.2 times as fast, and is equally fast in the condition.
		{figure{name: "f-quarter"}, atMostLoss(1.1), 1.2, false, true},
		{lower, atMostLoss(1), 1 / 1.2, true, true},
		{figure{name: "g-quarter"}, atMostLoss(1.1), 0, false, false},
	} {
		g := test.goal(test.of)
		value, met, known := g.result(r)
		if known != test.known || known && (math.Abs(value-test.value) > 1e-9 || met != test.met) {
			t.Errorf("%s: %v, met %v, known %v", g.text, value, met, known)
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
		"| –      | –         | 25.0     |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "copy-in") {
		t.Errorf("a row without figures:\n%s", got)
	}
	got = goalTable(r)
	for _, want := range []string{
		"| select-8 | ≥ 1.1 of PgBouncer | 2.00   | met    |",
		"| rest     | ≤ 16 MiB           | 25.04  | missed |",
		"\n1 of 2 goals are met.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
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

func TestMemory(t *testing.T) {
	const rollup = "0-f ---p 00000000 00:00 0 [rollup]\nRss:             1234 kB\nPss: 1 kB\nPrivate_Clean: 30 kB\nPrivate_Dirty: 4 kB\n"
	if got, err := parseMemory(rollup); err != nil || got != (memory{resident: 1234, private: 34}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"nothing", "Rss: many kB\n"} {
		if _, err := parseMemory(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestCPU(t *testing.T) {
	if got, err := cpu(os.Getpid()); err != nil || got <= 0 {
		t.Errorf("this process: %v, %v", got, err)
	}
	if got, err := cpu(0); err != nil || got != 0 {
		t.Errorf("no process: %v, %v", got, err)
	}
	if _, err := cpu(math.MaxInt32 >> 3); err == nil {
		t.Error("a process that does not exist: no error")
	}
}

func TestFindCPU(t *testing.T) {
	const first = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
	const second = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
	const own = "3:cpuset:/\n2:cpu,cpuacct:/one\n0::/two\n"
	for _, test := range []struct {
		mounts string
		want   hierarchy
	}{
		{second + first, hierarchy{"/sys/fs/cgroup/cpu,cpuacct", "/one", false}},
		{second, hierarchy{"/sys/fs/cgroup/unified", "/two", true}},
		{"cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n", hierarchy{}},
	} {
		got, err := findCPU(test.mounts, own)
		if got != test.want || (err == nil) != (test.want.mount != "") {
			t.Errorf("%s: %+v, %v", test.mounts, got, err)
		}
	}
	var none *cgroup
	called := false
	if err := none.start(func() error { called = true; return nil }); err != nil || !called {
		t.Errorf("no cgroup: %v, called %v", err, called)
	}
}

// A figure is worse if the median of its ratios is, in its direction.
func TestWorseThanBaseline(t *testing.T) {
	for name, test := range map[string]struct {
		figure         string
		now, baselines []float64
		worse          bool
	}{
		"as fast":              {"select-8", []float64{100, 50, 95}, []float64{100, 100, 100}, false},
		"slower":               {"select-8", []float64{89, 200, 80}, []float64{100, 100, 100}, true},
		"faster":               {"select-8", []float64{150}, []float64{100}, false},
		"as much memory":       {"rest", []float64{11}, []float64{10}, false},
		"more memory":          {"rest", []float64{11.2}, []float64{10}, true},
		"less memory":          {"rest", []float64{5}, []float64{10}, false},
		"new":                  {"rest", []float64{5}, nil, false},
		"no longer measured":   {"rest", nil, []float64{10}, true},
		"in no round together": {"rest", []float64{10, math.NaN()}, []float64{math.NaN(), 10}, true},
	} {
		r := results{}
		for round, value := range test.now {
			r.add(test.figure, iamproxyTarget, round, value)
		}
		for round, value := range test.baselines {
			r.add(test.figure, baselineTarget, round, value)
		}
		if got := worseThanBaseline(r); slices.Contains(got, test.figure) != test.worse || len(got) > 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := both([]string{"a", "b", "c"}, []string{"c", "a", "d"}); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("both: %v", got)
	}
	var again []string
	for _, m := range choose(oneOf([]string{"cpu-8", "rest"})) {
		again = append(again, m.name)
	}
	if !slices.Equal(again, []string{"select-8", "rest"}) {
		t.Errorf("again: %v", again)
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
	slices.Sort(shown)
	if !slices.Equal(added, shown) {
		t.Errorf("added %v, shown %v", added, shown)
	}
}

func TestChoice(t *testing.T) {
	for pattern, want := range map[string]string{
		"^cpu-8": "select-8 select-8-neighbor select-8-quarter", "select-(1|8|32)$": "select-1 select-8 select-32",
		"^login$": "login", "^copy.*out$": "copy-out", "^beside-10": "beside-10 beside-100 beside-1000", "^session": "beside-5000",
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
		"-check":       {only: "rest", rounds: 1, check: true},
		"-targets":     {only: "rest", rounds: 1, paths: "other"},
	} {
		if _, err := o.validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTargets(t *testing.T) {
	for want, o := range map[string]options{
		"direct PgBouncer iamproxy":          {},
		"direct PgBouncer iamproxy baseline": {baseline: "b"},
		"iamproxy baseline":                  {baseline: "b", check: true},
		"PgBouncer baseline":                 {baseline: "b", check: true, paths: "baseline,PgBouncer"},
	} {
		var got []string
		for _, t := range o.targets() {
			got = append(got, t.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v, want %s", got, want)
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
	var thousand []float64
	for i := range 1000 {
		thousand = append(thousand, float64(i+1))
	}
	for percent, want := range map[float64]float64{50: 500, 99: 990, 99.9: 999, 100: 1000} {
		if got := percentile(thousand, percent); got != want {
			t.Errorf("%v %%: %v, want %v", percent, got, want)
		}
	}
	if got := percentile([]float64{7}, 99.9); got != 7 {
		t.Errorf("of one: %v", got)
	}
}

// The plot is well-formed and has no NaN, whatever is missing.
func TestPlot(t *testing.T) {
	targets := []target{{name: directTarget}, {name: pgbouncerTarget}, {name: iamproxyTarget}}
	r := results{}
	r.add("p99-10", directTarget, 0, 0.3)
	r.add("memory-10", iamproxyTarget, 0, 14)
	r.add("memory-5000", iamproxyTarget, 0, 90)
	r.add("idle-cpu-10", iamproxyTarget, 0, 0)
	svg := plot(panels(r, targets))
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
	got := scaleTable(r, targets)
	for _, want := range []string{"| 10   | 100 | 1,000 | 5,000 |", "| 14.0 | –   | –     | 90.0  |"} {
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

// A target that is last in one round is first in the next. The direct target is never first.
func TestTurn(t *testing.T) {
	targets := []target{{name: directTarget}, {name: "a"}, {name: "b"}}
	var order []string
	for round := range 3 {
		for _, target := range turn(targets, round) {
			order = append(order, target.name)
		}
	}
	if got, want := strings.Join(order, " "), "a direct b b direct a a direct b"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := turn(targets[:1], 1); len(got) != 1 {
		t.Errorf("of one: %v", got)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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
	b.results = results{}
	for _, t := range b.targets {
		for _, f := range figures {
			b.results.add(f.name, t.name, 0, 10)
		}
	}
	b.omitted = []string{"copy-in-quarter: no cgroup"}
	if err := b.writePage(file, "Measured here.\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{"](performance/scale.svg)", "Measured here.", "One vCPU relays about 100,000 queries", "Not measured: copy-in-quarter: no cgroup"}
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
	r.add("rest-login", iamproxyTarget, 0, 25)
	r.add("select-1", iamproxyTarget, 0, 25)
	const want = "| Measurement                       | iamproxy |\n"
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
