package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var glossaryRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| [^|]+ \| [^|]*\| ([^|]*)\|$`)

// The identifiers that the glossary names are declared in their packages.
func TestGlossary(t *testing.T) {
	n := 0
	for _, row := range glossaryRow.FindAllStringSubmatch(read(t, "docs/glossary.md"), -1) {
		for _, quote := range quoted.FindAllStringSubmatch(row[2], -1) {
			n++
			dir, name, _ := strings.Cut(quote[1], ".")
			if !declares(t, dir, name) {
				t.Errorf("%s: package %s declares no %s", row[1], dir, name)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d identifiers: the glossary has more", n)
	}
}

// declares reports whether a package declares the identifier, alone or in a group.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	declaration := regexp.MustCompile(`(?m)^(func |type |var |const |\t)` + name + `\b`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if declaration.Match(source) {
			return true
		}
	}
	return false
}
