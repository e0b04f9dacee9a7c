//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// Places in the page.
const (
	summaryPlace = "make bench writes the summary"
	addsPlace    = "make bench writes what iamproxy adds"
	needsPlace   = "make bench writes what iamproxy needs"
	growsPlace   = "make bench writes how it grows"
)

// writePage replaces all figures of the page.
func (b *bench) writePage(file, about string) error {
	return errors.Join(
		mdtable.Replace(file, summaryPlace, summaryOf(b.results, b.points)+"\n"+about),
		mdtable.Replace(file, addsPlace, partTable(b.results, b.targets, adds)),
		mdtable.Replace(file, needsPlace, partTable(b.results, b.targets, needs)),
		writeScale(file, b.results, b.points, b.targets))
}

// partTable returns a table of the page, with medians. It omits empty rows, and targets
// without any value.
func partTable(r results, targets []target, which part) string {
	published := slices.DeleteFunc(slices.Clone(figures), func(f figure) bool { return f.part != which || len(r[f.name]) == 0 })
	header := []string{"Measurement"}
	lines := make([][]string, len(published))
	for i, f := range published {
		lines[i] = []string{f.title}
	}
	for _, t := range targets {
		if !slices.ContainsFunc(published, func(f figure) bool { return r.of(f.name, t.name).n > 0 }) {
			continue
		}
		header = append(header, t.name)
		for i, f := range published {
			lines[i] = append(lines[i], show(r.of(f.name, t.name), f.digits))
		}
	}
	return mdtable.Table(append([][]string{header}, lines...))
}

// summaryOf returns the most important results as a list.
func summaryOf(r results, points map[string][]point) string {
	value := func(figure, target string) float64 { return r.of(figure, target).median }
	show := func(figure, target string, digits int) string { return thousands(value(figure, target), digits) }
	// In microseconds, of one client.
	latency := func(target string) float64 { return 1e6 / value("select-1", target) }
	added := func(target string) string { return thousands(latency(target)-latency(directTarget), 0) }
	perQuery := []float64{value("cpu-1", iamproxyTarget), value("cpu-8", iamproxyTarget), value("cpu-32", iamproxyTarget)}
	low, high := slices.Min(perQuery), slices.Max(perQuery)
	fewest, direct, most := points[iamproxyTarget][0], last(points[directTarget]), last(points[iamproxyTarget])
	lines := []string{
		fmt.Sprintf("- **Latency**: With one client, a query takes %s µs longer than over a direct connection. PgBouncer adds %s µs.",
			added(iamproxyTarget), added(pgbouncerTarget)),
		fmt.Sprintf("- **Throughput**: With 8 clients, iamproxy relays %s queries per second, PgBouncer %s. Direct connections reach %s.",
			show("select-8", iamproxyTarget, 0), show("select-8", pgbouncerTarget, 0), show("select-8", directTarget, 0)),
		fmt.Sprintf("- **Bulk data**: COPY TO runs at %s MB/s and COPY FROM at %s MB/s. Over a direct connection they run at %s and %s MB/s.",
			show("copy-out", iamproxyTarget, 0), show("copy-in", iamproxyTarget, 0), show("copy-out", directTarget, 0), show("copy-in", directTarget, 0)),
		fmt.Sprintf("- **Connect time**: A login takes %s ms longer than a direct login with a token at hand.", show("connect", iamproxyTarget, 2)),
		fmt.Sprintf("- **CPU**: A query takes %s to %s µs of CPU time. One vCPU relays about %s queries per second.",
			thousands(low, 0), thousands(high, 0), thousands(roundDown(1e6/high), 0)),
		fmt.Sprintf("- **Memory**: The process uses %s MiB after the first login, and %s KiB for each idle session.",
			show("rest-login", iamproxyTarget, 1), show("idle", iamproxyTarget, 1)),
		fmt.Sprintf("- **Sessions**: The process uses %s MiB with %s sessions, and %s MiB with %s. Beside %s idle sessions, a query of 8 active clients takes %s ms on average, and %s ms over a direct connection.",
			thousands(fewest.memory, 1), thousands(float64(fewest.sessions), 0), thousands(most.memory, 1), thousands(float64(most.sessions), 0),
			thousands(float64(most.sessions), 0), thousands(most.latency, 2), thousands(direct.latency, 2)),
	}
	return strings.Join(lines, "\n") + "\n"
}

func last(points []point) point { return points[len(points)-1] }

// besideIdle returns the throughput beside idle sessions as a sentence.
func besideIdle(r results, points []point) string {
	share := func(target string) string { return show(r.of("crowd", target), 2) }
	return fmt.Sprintf("Beside %s idle sessions, 100 active clients reach %s of their throughput without them (PgBouncer: %s, direct: %s).\n",
		thousands(float64(last(points).sessions), 0), share(iamproxyTarget), share(pgbouncerTarget), share(directTarget))
}

// roundDown returns the greatest multiple of 1,000 that is not more than the value.
func roundDown(value float64) float64 { return math.Floor(value/1000) * 1000 }
