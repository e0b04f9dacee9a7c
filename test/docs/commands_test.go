package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	makeTarget = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	makeRun    = regexp.MustCompile("(?m)(?:`|run: |^ {4}|cache\" )make (?:-s )?([a-z][a-z0-9-]*)")
	ciTargets  = regexp.MustCompile(`(?m)^targets=\((.*)\)$`)
)

// Every target of make that a page or a workflow runs exists.
func TestMakeTargets(t *testing.T) {
	var targets []string
	for _, found := range makeTarget.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, found[1])
	}
	n := 0
	check := func(file, target string) {
		n++
		if !slices.Contains(targets, target) {
			t.Errorf("%s: make has no target %s", file, target)
		}
	}
	for _, file := range append(pages(t), workflows(t)...) {
		text := read(t, file)
		if file == "docs/conformance.md" {
			text = strings.ReplaceAll(text, "`make check`", "") // of PostgreSQL
		}
		for _, found := range makeRun.FindAllStringSubmatch(text, -1) {
			check(file, found[1])
		}
	}
	for _, target := range strings.Fields(ciTargets.FindStringSubmatch(read(t, ".ci/run"))[1]) {
		check(".ci/run", target)
	}
	if n < 60 {
		t.Errorf("found %d runs of make: there are more", n)
	}
}

var (
	goTest    = regexp.MustCompile(`(?:cd (\S+) && .*)?(?:go|GO\)) test .*`)
	runOption = regexp.MustCompile(`-run '?([^' ` + "`" + `]+)`)
	packages  = regexp.MustCompile(`\./[a-z0-9/.]*`)
	skipped   = regexp.MustCompile(`(?m)^ *skip: (.*)$`)
)

// Every pattern of -run and -skip in the Makefile, a page or a workflow matches a test. A
// pattern that matches none is no error to go test.
func TestNamedTests(t *testing.T) {
	all := testsOf(t)
	n := 0
	match := func(file, pattern string, below []string) {
		if pattern == "^$$" || strings.HasPrefix(pattern, "$") {
			return // none, or a variable
		}
		pattern, _, _ = strings.Cut(strings.ReplaceAll(pattern, "$$", "$"), "/")
		for _, alternative := range strings.Split(pattern, "|") {
			n++
			name := regexp.MustCompile(alternative)
			if !slices.ContainsFunc(below, func(dir string) bool { return slices.ContainsFunc(all[dir], name.MatchString) }) {
				t.Errorf("%s: no test of %q has a name like %s", file, below, alternative)
			}
		}
	}
	for _, file := range append(pages(t), append(workflows(t), "Makefile")...) {
		text := strings.ReplaceAll(read(t, file), "\\\n", " ")
		for _, found := range goTest.FindAllStringSubmatch(text, -1) {
			command, in := found[0], found[1]
			var below []string
			for _, pkg := range packages.FindAllString(command, -1) {
				for dir := range all {
					if root, deep := strings.CutSuffix(path.Join(in, pkg), "/..."); dir == root || deep && strings.HasPrefix(dir, root+"/") {
						below = append(below, dir)
					}
				}
			}
			for _, found := range runOption.FindAllStringSubmatch(command, -1) {
				match(file, found[1], below)
			}
			if strings.Contains(command, "-skip") {
				for _, found := range skipped.FindAllStringSubmatch(text, -1) {
					match(file, found[1], below)
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("found %d patterns: there are more", n)
	}
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)

// testsOf returns the names of tests by the directories of their packages.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		for _, found := range testFunction.FindAllStringSubmatch(read(t, file), -1) {
			tests[path.Dir(file)] = append(tests[path.Dir(file)], found[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// workflows returns the files of the workflows.
func workflows(t *testing.T) (files []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(found) == 0 {
		t.Fatalf("%d workflows, %v", len(found), err)
	}
	for _, file := range found {
		files = append(files, path.Join(".github/workflows", filepath.Base(file)))
	}
	return files
}
