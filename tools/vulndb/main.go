// Vulndb makes a copy of the Go vulnerability database, for govulncheck -db. The database's
// source is a Go module, golang.org/x/vulndb, which is available wherever modules are.
//
// The copy has what https://go.dev/doc/security/vuln/database says.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

const module = "golang.org/x/vulndb@latest"

// fewest is less than the number of entries of a complete database.
const fewest = 1000

func main() {
	to := flag.String("to", "build/vulndb", "the `DIRECTORY` of the copy")
	flag.Parse()
	if err := run(context.Background(), *to, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vulndb:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, to string, out io.Writer) error {
	source, at, err := download(ctx)
	if err != nil {
		return err
	}
	n, err := convert(filepath.Join(source, "data", "osv"), to, at)
	if err != nil {
		return err
	}
	if n < fewest {
		return fmt.Errorf("%s has only %d entries: it is not in the form that is known here", module, n)
	}
	fmt.Fprintf(out, "%d entries, as of %s\n", n, at.Format(time.DateOnly))
	return nil
}

// download returns the directory of the module, and its time.
func download(ctx context.Context) (dir string, at time.Time, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir() // outside of a module
	out, err := cmd.Output()
	var is struct{ Dir, Info, Error string }
	if jsonErr := json.Unmarshal(out, &is); jsonErr != nil || err != nil {
		return "", at, fmt.Errorf("%s cannot be downloaded: %w %s", module, cmp.Or(err, jsonErr), is.Error)
	}
	info, err := os.ReadFile(is.Info)
	if err != nil {
		return "", at, err
	}
	var version struct{ Time time.Time }
	if err := json.Unmarshal(info, &version); err != nil {
		return "", at, err
	}
	return is.Dir, version.Time, nil
}

// entry holds the fields of an OSV entry that the index needs.
// https://ossf.github.io/osv-schema/
type entry struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Affected []struct {
		Package struct{ Name string }
		Ranges  []struct {
			Events []struct{ Introduced, Fixed string }
		}
	}
}

type (
	indexDB struct {
		Modified time.Time `json:"modified"`
	}
	indexModule struct {
		Path  string      `json:"path"`
		Vulns []indexVuln `json:"vulns"`
	}
	indexVuln struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified"`
		Fixed    string    `json:"fixed,omitempty"`
		Aliases  []string  `json:"aliases,omitempty"`
	}
)

// convert writes the database of a directory of entries, and returns their number.
func convert(source, to string, at time.Time) (n int, err error) {
	files, err := filepath.Glob(filepath.Join(source, "GO-*.json"))
	if err != nil {
		return 0, err
	}
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(filepath.Join(to, "ID"), 0o755), os.MkdirAll(filepath.Join(to, "index"), 0o755)); err != nil {
		return 0, err
	}
	modules := make(map[string][]indexVuln)
	var vulns []indexVuln
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(to, "ID", e.ID+".json"), text, 0o644); err != nil {
			return 0, err
		}
		vulns = append(vulns, indexVuln{ID: e.ID, Modified: at, Aliases: e.Aliases})
		for path, fixed := range e.modules() {
			modules[path] = append(modules[path], indexVuln{ID: e.ID, Modified: at, Fixed: fixed})
		}
	}
	return len(files), writeIndex(to, at, modules, vulns)
}

// modules returns the affected modules, each with the version in which the last
// vulnerability is fixed; empty if one is not fixed.
func (e entry) modules() map[string]string {
	fixed := make(map[string]string)
	for _, affected := range e.Affected {
		last := ""
		for _, r := range affected.Ranges {
			for _, event := range r.Events {
				last = event.Fixed // of the last event: none if it was introduced again
			}
		}
		before, known := fixed[affected.Package.Name]
		switch {
		case !known:
			fixed[affected.Package.Name] = last
		case before == "" || last == "":
			fixed[affected.Package.Name] = ""
		case semver.Compare("v"+last, "v"+before) > 0:
			fixed[affected.Package.Name] = last
		}
	}
	return fixed
}

func writeIndex(to string, at time.Time, modules map[string][]indexVuln, vulns []indexVuln) error {
	all := []indexModule{}
	for path, of := range modules {
		all = append(all, indexModule{path, of})
	}
	slices.SortFunc(all, func(a, b indexModule) int { return strings.Compare(a.Path, b.Path) })
	for name, what := range map[string]any{"db": indexDB{at}, "modules": all, "vulns": vulns} {
		text, err := json.Marshal(what)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, "index", name+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
