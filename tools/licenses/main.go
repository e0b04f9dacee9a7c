// Licenses checks the licenses of all modules in the binary. It fails if one is not in the
// list of accepted ones. With -write it writes their texts into a file, which must
// accompany the binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// systems are the systems that binaries are released for. Their modules differ.
var systems = []string{"linux", "darwin", "windows"}

// fine are the accepted licenses, by SPDX's identifiers, which require only attribution;
// and Google's patent grant.
var fine = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "GooglePatentsFile"}

// covered is the percentage of a file that must match a license.
const covered = 75

func main() {
	file := flag.String("write", "", "the `FILE` to put all texts into")
	flag.Parse()
	if err := run(context.Background(), *file, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string, out io.Writer) error {
	modules, err := linked(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	count := make(map[string]int)
	texts := make(map[string][]string) // by text
	for _, m := range modules {
		found, err := m.licenses()
		wrong = append(wrong, err)
		for _, id := range found.ids {
			count[id]++
		}
		for _, text := range found.texts {
			texts[text] = append(texts[text], m.name)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d modules:", len(modules))
	for _, id := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(out, " %s %d", id, count[id])
	}
	fmt.Fprintln(out)
	if file == "" {
		return nil
	}
	return os.WriteFile(file, together(texts), 0o644)
}

// together returns each text once, after the names of its modules.
func together(texts map[string][]string) []byte {
	var all []string
	for text, whose := range texts {
		all = append(all, "==== "+strings.Join(whose, "\n==== ")+"\n\n"+text+"\n\n")
	}
	slices.Sort(all)
	return []byte("What is linked into iamproxy beside its own code, under these licenses.\n\n" + strings.Join(all, ""))
}

// module is a linked module, with the folders of its linked packages. Go itself is one,
// too.
type module struct {
	name, dir string
	packages  []string
}

// linked returns the modules of the binary on all systems, sorted by name.
func linked(ctx context.Context) ([]module, error) {
	root, err := goCommand(ctx, "", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all := map[string]*module{"go": {name: "go (standard library)", dir: strings.TrimSpace(root)}}
	for _, system := range systems {
		list, err := goCommand(ctx, system, "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", "./cmd/iamproxy")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			fields := strings.Split(strings.TrimSpace(line), "\t")
			if len(fields) != 3 {
				continue
			}
			if all[fields[0]] == nil {
				all[fields[0]] = &module{name: fields[0], dir: fields[1]}
			}
			all[fields[0]].packages = append(all[fields[0]].packages, fields[2])
		}
	}
	var modules []module
	for _, name := range slices.Sorted(maps.Keys(all)) {
		modules = append(modules, *all[name])
	}
	return modules, nil
}

// folders returns where its licenses may be: from its root to its packages.
func (m module) folders() []string {
	folders := []string{m.dir}
	for _, dir := range m.packages {
		for ; len(dir) > len(m.dir); dir = filepath.Dir(dir) {
			folders = append(folders, dir)
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

func goCommand(ctx context.Context, system string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if system != "" {
		cmd.Env = append(cmd.Env, "GOOS="+system, "GOARCH=amd64")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return string(out), nil
}

// licenseFile matches the names of licenses, and noticeFile those of files that must
// accompany them.
var (
	licenseFile = regexp.MustCompile(`(?i)^((un)?licen[sc]e|copying|patents$)`)
	noticeFile  = regexp.MustCompile(`(?i)^notice`)
)

// found is the result of a module: its licenses, and their texts.
type found struct{ ids, texts []string }

// licenses returns those of the module, and those of its parts.
func (m module) licenses() (f found, err error) {
	for _, folder := range m.folders() {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return f, err
		}
		for _, entry := range entries {
			if err := f.look(m, filepath.Join(folder, entry.Name())); err != nil {
				return f, err
			}
		}
	}
	if len(f.ids) == 0 {
		return f, fmt.Errorf("%s: no license was found in it", m.name)
	}
	return f, nil
}

// look reads a license, or a file that accompanies one.
func (f *found) look(m module, file string) error {
	name := filepath.Base(file)
	isLicense := licenseFile.MatchString(name) && filepath.Ext(name) != ".go"
	if info, err := os.Stat(file); err != nil || info.IsDir() || !isLicense && !noticeFile.MatchString(name) {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	ids := identify(content)
	if isLicense && len(ids) == 0 {
		return fmt.Errorf("%s: nobody knows the license in %s", m.name, name)
	}
	for _, id := range ids {
		if !slices.Contains(fine, id) {
			return fmt.Errorf("%s: %s is under %s, which is not of %s", m.name, name, id, strings.Join(fine, ", "))
		}
		if !slices.Contains(f.ids, id) {
			f.ids = append(f.ids, id)
		}
	}
	f.texts = append(f.texts, strings.TrimSpace(strings.ReplaceAll(string(content), "\r\n", "\n")))
	return nil
}

// identify returns the names of the licenses that a text consists of, if it does.
func identify(text []byte) (ids []string) {
	coverage := licensecheck.Scan(text)
	if coverage.Percent < covered {
		return nil
	}
	for _, match := range coverage.Match {
		if !slices.Contains(ids, match.ID) {
			ids = append(ids, match.ID)
		}
	}
	return ids
}
