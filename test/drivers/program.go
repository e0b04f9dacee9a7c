//go:build unix

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/program"
)

// limit bounds a program. A lost cancel request costs it the minute that the query takes.
const limit = 3 * time.Minute

// driver is one driver and the program that tests it.
type driver struct {
	name    string
	dir     string // of the program, below test/drivers
	command []string
}

// pgjdbc is the driver that also tries client certificates that are rejected.
const pgjdbc = "pgjdbc"

// java runs a program with pgjdbc.
var java = []string{"java", "-cp", "/usr/share/java/postgresql.jar:/usr/share/java/junixsocket-common.jar"}

// Packages of Debian are visible to Debian's own interpreters only, which need not be first
// on the PATH.
var drivers = []driver{
	{"psql", "shell", []string{"sh", "psql.sh"}},
	{"pgbench", "shell", []string{"sh", "pgbench.sh"}},
	{"psycopg2", "python", []string{"/usr/bin/python3", "with_psycopg2.py"}},
	{"psycopg", "python", []string{"/usr/bin/python3", "with_psycopg.py"}},
	{"asyncpg", "python", []string{"/usr/bin/python3", "with_asyncpg.py"}},
	{"pyodbc", "python", []string{"/usr/bin/python3", "with_pyodbc.py"}},
	{"pdo", "php", []string{"/usr/bin/php", "pdo.php"}},
	{"pgsql", "php", []string{"/usr/bin/php", "pgsql.php"}},
	{"ruby-pg", "ruby", []string{"/usr/bin/ruby", "pg.rb"}},
	{"dbd-pg", "perl", []string{"/usr/bin/perl", "dbd_pg.pl"}},
	{pgjdbc, "java", append(slices.Clone(java), "Pgjdbc.java")},
	{"node-postgres", "node", []string{"node", "pg.mjs"}},
	{"postgres.js", "node", []string{"node", "postgres.mjs"}},
	{"pgx", "go", []string{"go", "run", "-buildvcs=false", "./pgx"}},
	{"pq", "go", []string{"go", "run", "-buildvcs=false", "./pq"}},
}

func choose(names []string) ([]driver, error) {
	return program.Choose(drivers, func(d driver) string { return d.name }, names)
}

// steps are the steps of every program, in the order of the table.
var steps = []string{"query", "transaction", "copy", "cancel"}

// Results of a step, other than an error.
const (
	done   = "ok"
	inOnly = "in only" // COPY, by a driver without COPY TO
	hasNot = "–"       // the driver lacks the feature
)

// report is the output of a program, one line of JSON.
type report struct {
	Driver  string            `json:"driver"`
	Version string            `json:"version"`
	Runtime string            `json:"runtime"`
	Steps   map[string]string `json:"steps"`
}

// row is the result of one driver.
type row struct {
	report
	failures map[string]string // by step; "" is for all steps
	routes   []string          // the results of the other routes, as in the table
}

// nothing reports whether the driver cannot use the route.
func (r row) nothing() bool {
	return len(r.failures) == 0 && !slices.ContainsFunc(steps, func(step string) bool { return r.Steps[step] != hasNot })
}

// attempt runs the program of one driver. Its report is compared with what the server and
// iamproxy saw.
func attempt(ctx context.Context, d driver, via *route) row {
	via.proxy.Cluster.ResetVerdicts()
	via.sessions.reset()
	before, err := countCancels(via.proxy.Cluster)
	var said report
	if err == nil {
		said, err = readReport(ctx, d, via.environment())
	}
	if err != nil {
		return row{report: report{Driver: d.name}, failures: map[string]string{"": err.Error()}}
	}
	r := judge(said)
	if r.nothing() {
		return r
	}
	if after, err := countCancels(via.proxy.Cluster); err != nil {
		r.failures[""] = err.Error()
	} else if after == before && said.Steps["cancel"] == done {
		r.failures["cancel"] = "the program says ok, but the server canceled nothing"
	}
	if !slices.ContainsFunc(via.proxy.Cluster.Verdicts(), func(v aurora.Verdict) bool { return v.OK }) {
		r.failures[""] = "the server let nobody in with a token"
	} else if other := via.sessions.other(via.right); other != "" {
		r.failures[""] = "a session went another way than " + via.name + ": " + other
	}
	return r
}

// judge returns the failures in a report: all results but the accepted ones.
func judge(said report) row {
	failures := make(map[string]string)
	for _, step := range steps {
		result := said.Steps[step]
		if result != done && result != hasNot && (result != inOnly || step != "copy") {
			failures[step] = cmp.Or(result, "no result")
		}
	}
	if said.Driver == "" || said.Version == "" || said.Runtime == "" {
		failures[""] = "the report has no driver or no version"
	}
	return row{report: said, failures: failures}
}

func countCancels(cluster *aurora.Cluster) (int, error) {
	log, err := cluster.Log()
	return strings.Count(log, "canceling statement due to user request"), err
}

// readReport runs a driver's program, and returns its report.
func readReport(ctx context.Context, d driver, environment []string) (said report, err error) {
	out, err := program.Run(ctx, limit, filepath.Join("test", "drivers", d.dir), environment, d.command)
	if err != nil {
		return report{}, err
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return report{}, fmt.Errorf("%s printed no report: %w: %s", strings.Join(d.command, " "), err, out)
	}
	return said, nil
}
