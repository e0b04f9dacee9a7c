package main

import (
	"archive/zip"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Two archives of files with different times and modes are equal, and the extension is executable.
func TestRun(t *testing.T) {
	t.Chdir("../..") // of LICENSE
	var layers [2][]byte
	for i := range layers {
		dir := t.TempDir()
		binary, licenses, layer := filepath.Join(dir, "binary"), filepath.Join(dir, "licenses"), filepath.Join(dir, "layer.zip")
		for _, file := range []string{binary, licenses} {
			if err := os.WriteFile(file, []byte("content of a file"), fs.FileMode(0o600+0o100*i)); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, time.Time{}, time.Unix(int64(i), 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := run(binary, licenses, layer); err != nil {
			t.Fatal(err)
		}
		var err error
		if layers[i], err = os.ReadFile(layer); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(layers[0], layers[1]) {
		t.Error("the layers differ")
	}
	archive, err := zip.NewReader(bytes.NewReader(layers[0]), int64(len(layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{"extensions/iamproxy": 0o755, "iamproxy/LICENSE": 0o644, "iamproxy/LICENSES": 0o644}
	if len(archive.File) != len(modes) {
		t.Errorf("%d files", len(archive.File))
	}
	for _, file := range archive.File {
		if file.Mode() != modes[file.Name] {
			t.Errorf("%s has mode %v", file.Name, file.Mode())
		}
	}
	if err := run("no-such-file", "LICENSE", filepath.Join(t.TempDir(), "layer.zip")); err == nil {
		t.Error("no error for a missing file")
	}
}
