//go:build unix

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/tools/mdtable"
)

// table is Markdown that can be read as it is, too.
func table(rows []row) string {
	lines := [][]string{{"driver", "version", "with", "query", "transaction", "COPY", "cancel", "TLS", socketRoute}}
	for _, r := range rows {
		line := []string{r.Driver, r.Version, r.Runtime}
		for _, step := range steps {
			line = append(line, cell(r, step))
		}
		lines = append(lines, append(line, r.routes...))
	}
	return mdtable.Table(lines)
}

// add takes in what became of the driver another way, which has one column.
func (r *row) add(route string, other row) {
	result := done
	switch {
	case len(other.failures) > 0:
		result = failed
	case other.nothing():
		result = hasNot
	}
	r.routes = append(r.routes, result)
	for step, failure := range other.failures {
		r.failures[strings.TrimSuffix(route+" "+step, " ")] = failure
	}
}

// failed is what the table has for what went wrong; what that was is said
// elsewhere.
const failed = "FAILED"

// cell is a step's in the table.
func cell(r row, step string) string {
	if r.failures[""] != "" || r.failures[step] != "" {
		return failed
	}
	return r.Steps[step]
}

// outcome is what is said of a driver as soon as it was run.
func outcome(d driver, r row) string {
	switch {
	case r.nothing():
		return d.name + ": " + hasNot
	case len(r.failures) == 0:
		return d.name + ": ok"
	}
	var lines []string
	for _, step := range append([]string{""}, steps...) {
		if failure := r.failures[step]; failure != "" {
			// Some errors have lines of their own.
			lines = append(lines, strings.TrimSuffix(d.name+": "+step, ": ")+": "+strings.Join(strings.Fields(failure), " "))
		}
	}
	return strings.Join(lines, "\n")
}

func countFailed(rows []row) (n int) {
	for _, r := range rows {
		if len(r.failures) > 0 {
			n++
		}
	}
	return n
}

// serverVersion is of the server behind iamproxy, as it says itself.
func serverVersion(ctx context.Context) (string, error) {
	bin, err := aurora.BinDir()
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("postgres --version: %w", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(version)), "postgres (PostgreSQL) "), nil
}
