package command

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A file that cannot be executed has another exit code than one that is missing.
func TestFind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, mode := range map[string]os.FileMode{"program": 0o755, "document": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{
		"program":                      0,
		filepath.Join(dir, "program"):  0,
		"missing":                      NotFound,
		filepath.Join(dir, "missing"):  NotFound,
		"":                             NotFound,
		filepath.Join(dir, "document"): NotExecutable,
		dir:                            NotExecutable,
	} {
		if _, code, err := Find(name); code != want || (err == nil) != (want == 0) {
			t.Errorf("%q: %d, %v; want %d", name, code, err, want)
		}
	}
}
