// Package steps is what the programs for Go have in common.
package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

const (
	Text   = `it's 50 % "é"`
	Sleep  = "select pg_sleep(60)"
	Asleep = "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
)

// Line is the nth that COPY carries, as a value: with all that has to be escaped.
func Line(n int) string { return fmt.Sprintf("row %d: 50 %% of\tit, \\ and é", n) }

// Escaped is the same in COPY's own format, with the number before it.
func Escaped(n int) string {
	return fmt.Sprintf("%d\t%s\n", n, strings.NewReplacer(`\`, `\\`, "\t", `\t`).Replace(Line(n)))
}

// Copied says of what COPY has brought: how many, how many different, and whether all are good.
const Copied = `select count(*), count(distinct n), bool_and(t = format(e'row %s: 50 %% of\tit, \\ and é', n)) from copied`

// Lines is how many there are.
const Lines = 5000

// Check fails the step if it did not get what it wants.
func Check(got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("got %.200s, want %.200s", fmt.Sprint(got), fmt.Sprint(want))
}

// Until waits for a condition.
func Until(condition func() (bool, error)) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if holds, err := condition(); holds || err != nil {
			return err
		}
	}
	return errors.New("waited in vain for the query to run")
}

// Step does one thing, and returns what is to be said of it: "" is "ok".
type Step func(ctx context.Context) (string, error)

// Report runs the steps and prints what became of each.
func Report(driver, module string, steps map[string]Step) {
	results := make(map[string]string)
	for name, step := range steps {
		said, err := step(context.Background())
		switch {
		case err != nil:
			said = "failed: " + err.Error()
		case said == "":
			said = "ok"
		}
		results[name] = said
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"driver": driver, "version": version(module), "runtime": "Go " + strings.TrimPrefix(runtime.Version(), "go"), "steps": results,
	})
}

// version is that of a module in this binary.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return ""
}
