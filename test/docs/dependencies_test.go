package docs

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	required = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	listed   = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| (yes|no) \\|$")
)

// The page has the reason for every direct dependency, and whether it is in the binary.
func TestDependencies(t *testing.T) {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, match := range required.FindAllStringSubmatch(string(gomod), -1) { // indirect ones have a comment
		direct = append(direct, match[1])
	}
	reasons := make(map[string]bool) // in the binary?
	for _, match := range listed.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		reasons[match[1]] = match[2] == "yes"
	}
	if names := slices.Sorted(maps.Keys(reasons)); !slices.Equal(names, slices.Sorted(slices.Values(direct))) {
		t.Errorf("the page has %q, go.mod %q", names, direct)
	}
	for module, linked := range reasons {
		if imports := imported(t, module); imports != linked {
			t.Errorf("%s is in the binary: %v; the page says otherwise", module, imports)
		}
	}
}

// imported reports whether product code imports a package of the module. Tests, test/,
// tools/ and the folders below are not product code.
func imported(t *testing.T, module string) (yes bool) {
	t.Helper()
	other := []string{".git", "bin", "build", "deploy", "dist", "docs", "test", "tools"}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains(other, entry.Name()) && filepath.Dir(path) == root {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			_, name, _ := strings.Cut(line, `"`)
			name, _, quoted := strings.Cut(name, `"`)
			yes = yes || quoted && (name == module || strings.HasPrefix(name, module+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return yes
}
