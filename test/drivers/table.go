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

// table returns Markdown that is legible as text.
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

// add adds the result of another route, which has one column.
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

// failed marks a failure in the table. The error is printed below.
const failed = "FAILED"

// cell returns the cell of a step.
func cell(r row, step string) string {
	if r.failures[""] != "" || r.failures[step] != "" {
		return failed
	}
	return r.Steps[step]
}

// outcome returns the line about a driver that is printed after its run.
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
			// Some errors have several lines.
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

// serverVersion returns the version of the server.
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
