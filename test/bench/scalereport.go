//go:build linux

package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// aspects are the values of a point, each with a table and a part of the plot.
var aspects = []struct {
	title  string
	digits int
	of     func(point) float64
}{
	{"Memory, MiB", 1, func(p point) float64 { return p.memory }},
	{"CPU time per minute, all sessions idle, s", 3, func(p point) float64 { return p.cpu }},
	{"Mean latency of 8 active clients, ms", 2, func(p point) float64 { return p.latency }},
	{"99th percentile latency of 8 active clients, ms", 2, func(p point) float64 { return p.latency9 }},
}

// scaleTable returns a table with a row for each aspect and target.
func scaleTable(points map[string][]point, targets []target) string {
	header := []string{"Idle sessions", "Path"}
	for _, p := range points[targets[0].name] {
		header = append(header, thousands(float64(p.sessions), 0))
	}
	lines := [][]string{header}
	for _, aspect := range aspects {
		for _, t := range targets {
			line := []string{aspect.title, t.name}
			some := false
			for _, p := range points[t.name] {
				value := aspect.of(p)
				some = some || !math.IsNaN(value)
				line = append(line, strconv.FormatFloat(value, 'f', aspect.digits, 64))
			}
			if some && len(line) == len(header) {
				lines = append(lines, line)
			}
		}
	}
	return mdtable.Table(lines)
}

// panels returns the same for the plot.
func panels(points map[string][]point, targets []target) []panel {
	var all []panel
	for _, aspect := range aspects {
		p := panel{title: aspect.title}
		for _, t := range targets {
			s := series{name: t.name}
			for _, at := range points[t.name] {
				if value := aspect.of(at); !math.IsNaN(value) {
					s.x = append(s.x, float64(at.sessions))
					s.y = append(s.y, value)
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

// writeScale writes the plot into the directory named after the page. Into the page it
// writes a link to it, the table, and the throughput beside idle sessions.
func writeScale(file string, r results, points map[string][]point, targets []target) error {
	dir := strings.TrimSuffix(file, filepath.Ext(file))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const name = "scale.svg"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(plot(panels(points, targets))), 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf("![Memory, CPU time and latency by the number of idle sessions](%s/%s)\n\n%s\n%s",
		filepath.Base(dir), name, scaleTable(points, targets), besideIdle(r, points[iamproxyTarget]))
	return mdtable.Replace(file, growsPlace, text)
}
