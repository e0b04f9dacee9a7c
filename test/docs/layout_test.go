package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sourceFile matches the paths that CONTRIBUTING.md names.
var sourceFile = regexp.MustCompile("`((?:auth|cmd|deploy|internal|proxy|test|tls|tools)(?:/[a-z0-9/_.-]*)?)`")

// CONTRIBUTING.md names all directories of the product and of the tests, and no others.
func TestLayout(t *testing.T) {
	page := read(t, "CONTRIBUTING.md")
	for _, found := range sourceFile.FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(filepath.Join(root, found[1])); err != nil {
			t.Errorf("CONTRIBUTING.md names %s: %v", found[1], err)
		}
	}
	for _, parent := range []string{"internal", "proxy", "test"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !entry.IsDir() || entry.Name() == "testdata" {
				continue
			}
			names := []string{"`" + parent + "/" + entry.Name() + "`", "`" + entry.Name() + "`"}
			if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(page, name) }) {
				t.Errorf("CONTRIBUTING.md has no %s/%s", parent, entry.Name())
			}
		}
	}
}
