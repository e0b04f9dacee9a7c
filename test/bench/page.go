//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// Places in the page.
const (
	summaryPlace = "make bench writes the summary"
	addsPlace    = "make bench writes what iamproxy adds"
	needsPlace   = "make bench writes what iamproxy needs"
	growsPlace   = "make bench writes how it grows"
	scarcePlace  = "make bench writes the effect of scarce CPU time"
)

// writePage replaces all figures of the page. The plot goes into the directory named after
// the page.
func (b *bench) writePage(file, about string) error {
	dir := strings.TrimSuffix(file, filepath.Ext(file))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const image = "scale.svg"
	link := fmt.Sprintf("![Memory, CPU time and latency by the number of idle sessions](%s/%s)\n\n", filepath.Base(dir), image)
	scarceTable := partTable(b.results, b.targets, scarce)
	for _, reason := range b.omitted {
		scarceTable += "\nNot measured: " + reason + "\n"
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, image), []byte(plot(panels(b.results, b.targets))), 0o644),
		mdtable.Replace(file, summaryPlace, summaryOf(b.results)+"\n"+about),
		mdtable.Replace(file, addsPlace, partTable(b.results, b.targets, adds)),
		mdtable.Replace(file, needsPlace, partTable(b.results, b.targets, needs)),
		mdtable.Replace(file, growsPlace, link+scaleTable(b.results, b.targets)),
		mdtable.Replace(file, scarcePlace, scarceTable))
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

// scaleTable returns a table with a row for each aspect and target.
func scaleTable(r results, targets []target) string {
	header := []string{"Idle sessions", "Path"}
	for _, n := range idleSessions {
		header = append(header, thousands(float64(n), 0))
	}
	lines := [][]string{header}
	for _, a := range aspects {
		if a.plotOnly {
			continue
		}
		for _, t := range targets {
			line := []string{a.title, t.name}
			some := false
			for _, n := range idleSessions {
				s := r.of(besideName(a.name, n), t.name)
				some = some || s.n > 0
				line = append(line, show(s, a.digits))
			}
			if some {
				lines = append(lines, line)
			}
		}
	}
	return mdtable.Table(lines)
}

// panels returns the same for the plot.
func panels(r results, targets []target) []panel {
	var all []panel
	for _, a := range aspects {
		p := panel{title: a.title}
		for _, t := range targets {
			s := series{name: t.name}
			for _, n := range idleSessions {
				if value := r.of(besideName(a.name, n), t.name); value.n > 0 {
					s.x = append(s.x, float64(n))
					s.y = append(s.y, value.median)
				}
			}
			if len(s.x) > 0 {
				p.series = append(p.series, s)
			}
		}
		all = append(all, p)
	}
	return all
}

// summaryOf returns the most important results as a list.
func summaryOf(r results) string {
	value := func(figure, target string) float64 { return r.of(figure, target).median }
	show := func(figure, target string, digits int) string { return thousands(value(figure, target), digits) }
	// In microseconds, of one client.
	latency := func(target string) float64 { return 1e6 / value("select-1", target) }
	added := func(target string) string { return thousands(latency(target)-latency(directTarget), 0) }
	perQuery := []float64{value("cpu-1", iamproxyTarget), value("cpu-8", iamproxyTarget), value("cpu-32", iamproxyTarget)}
	low, high := slices.Min(perQuery), slices.Max(perQuery)
	most := strconv.Itoa(mostSessions)
	lines := []string{
		fmt.Sprintf("- **Latency**: With one client, a query takes %s µs longer than over a direct connection. PgBouncer adds %s µs.",
			added(iamproxyTarget), added(pgbouncerTarget)),
		fmt.Sprintf("- **Slowest queries**: Beside %s idle sessions, 99 %% of queries take at most %s ms. Over a direct connection it is %s ms, and through PgBouncer %s.",
			thousands(mostSessions, 0), show("p99-"+most, iamproxyTarget, 2), show("p99-"+most, directTarget, 2), show("p99-"+most, pgbouncerTarget, 2)),
		fmt.Sprintf("- **Throughput**: With 8 clients, iamproxy relays %s queries per second, PgBouncer %s. Direct connections reach %s.",
			show("select-8", iamproxyTarget, 0), show("select-8", pgbouncerTarget, 0), show("select-8", directTarget, 0)),
		fmt.Sprintf("- **Bulk data**: COPY TO runs at %s MB/s and COPY FROM at %s MB/s.",
			show("copy-out", iamproxyTarget, 0), show("copy-in", iamproxyTarget, 0)),
		fmt.Sprintf("- **Connect time**: A login takes %s ms longer than a direct login with a token at hand.",
			thousands(r.difference("login", iamproxyTarget, directTarget).median, 2)),
		fmt.Sprintf("- **Start**: A new process has the first query's result after %s ms.", show("first-session", iamproxyTarget, 0)),
		fmt.Sprintf("- **CPU**: A query takes %s to %s µs of CPU time. One vCPU relays about %s queries per second.",
			thousands(low, 0), thousands(high, 0), thousands(roundDown(1e6/high), 0)),
		fmt.Sprintf("- **Memory**: The process uses %s MiB after the first login, %s of them private, and %s KiB for each idle session.",
			show("rest-login", iamproxyTarget, 1), show("rest-login-private", iamproxyTarget, 1), show("session", iamproxyTarget, 1)),
	}
	return strings.Join(lines, "\n") + "\n"
}

// roundDown returns the greatest multiple of 1,000 that is not more than the value.
func roundDown(value float64) float64 { return math.Floor(value/1000) * 1000 }
