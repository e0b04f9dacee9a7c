//go:build linux

package windows

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tested are the packages whose tests need neither PostgreSQL nor another program.
var tested = []string{"./auth", "./cmd/...", "./internal/...", "./proxy/...", "./tls/...", "./test/fakeaws", "./test/sigv4"}

// skipped are the tests that cannot pass under Wine, with the reasons.
var skipped = map[string]string{
	"TestAlias":       "Wine has no UDP sockets for Go, and so no fake name server",
	"TestCheckReport": "the clock of Windows is coarser than a timeout of 1 ns",
}

// The tests of the packages pass. A test that cannot run on Windows skips itself.
func TestPackages(t *testing.T) {
	w := startWine(t)
	goroot, overlay := w.patchGo(t)
	tests := slices.Sorted(maps.Keys(skipped))
	// One package at a time: some tests have timeouts of seconds, and Wine is slow.
	args := []string{"test", "-p=1", "-count=1", "-trimpath", "-vet=off", "-timeout=15m", "-overlay=" + overlay, "-exec=" + w.program, "-skip=^(" + strings.Join(tests, "|") + ")$"}
	cmd := exec.CommandContext(t.Context(), filepath.Join(goroot, "bin", "go"), append(args, tested...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(w.environment(), "GOROOT="+goroot, "GOTOOLCHAIN=local", "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

// patchGo returns a GOROOT, and an overlay that makes os.RemoveAll work under Wine 8, which has
// another status for a missing feature than Windows. Only tests are built with it.
func (w *wine) patchGo(t *testing.T) (goroot, overlay string) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Go rejects an overlay of a file in the module cache, where its releases are.
	goroot = filepath.Join(w.dir, "goroot")
	if err := os.Symlink(strings.TrimSpace(string(out)), goroot); err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(goroot, "src", "internal", "syscall", "windows", "at_windows.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const statusNotImplemented, known = "0xC0000002", "case STATUS_INVALID_INFO_CLASS,"
	if bytes.Count(source, []byte(known)) != 1 {
		t.Fatalf("%s has changed: look for the fallback of Deleteat", original)
	}
	patched := filepath.Join(w.dir, "at_windows.go")
	source = bytes.Replace(source, []byte(known), []byte("case NTStatus("+statusNotImplemented+"), STATUS_INVALID_INFO_CLASS,"), 1)
	if err := os.WriteFile(patched, source, 0o600); err != nil {
		t.Fatal(err)
	}
	overlay = filepath.Join(w.dir, "overlay.json")
	content, err := json.Marshal(map[string]map[string]string{"Replace": {original: patched}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return goroot, overlay
}
