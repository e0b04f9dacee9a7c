package docs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const changelog = `# Changelog

## [Unreleased]

- not yet

## [1.2.0] - 2026-05-04

### Added

- two, see [1.1.0],
  with more
  of it
  - and below
- three

## [1.2.0-rc.1] - 2026-05-01

- a try

## [1.1.0] - May 4

- without a day

## [1.0.1] - 2026-03-02

## [1.0.0] - 2026-03-01

- one

[Unreleased]: https://example.com/compare/v1.2.0...main
[1.2.0]: https://example.com/releases/tag/v1.2.0
`

func TestReleaseNotes(t *testing.T) {
	for _, test := range []struct {
		version, notes string // no notes: an error
	}{
		{"v1.2.0", "### Added\n\n- two, see [1.1.0], with more of it\n  - and below\n- three\n"},
		{"v1.2.0-rc.1", "- a try\n"},
		{"v1.0.0", "- one\n"},
		{"1.0.0", "- one\n"},
		{"v1.3.0", ""},
		{"v1.2", ""},
		{"v1x2x0", ""},
		{"Unreleased", ""},
		{"v1.1.0", ""},
		{"v1.0.1", ""},
		{"", ""},
	} {
		if notes := releaseNotes(t, changelog, test.version); notes != test.notes {
			t.Errorf("%s: %q, want %q", test.version, notes, test.notes)
		}
	}
}

// A release inserts a heading below the one for unreleased changes.
func TestReleaseNotesOfChangelog(t *testing.T) {
	const unreleased = "\n## [Unreleased]\n"
	text := read(t, "CHANGELOG.md")
	if n := strings.Count(text, unreleased); n != 1 {
		t.Fatalf("%d headings for unreleased changes, want 1", n)
	}
	released := strings.Replace(text, unreleased, unreleased+"\n## [99.0.0] - 2099-12-31\n\n- something\n", 1)
	if notes := releaseNotes(t, released, "v99.0.0"); !strings.HasPrefix(notes, "- something\n") || strings.Contains(notes, "]: ") {
		t.Errorf("notes: %q", notes)
	}
}

// releaseNotes returns what tools/notes.awk prints, and nothing if it fails.
func releaseNotes(t *testing.T, changelog, version string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "CHANGELOG.md")
	if err := os.WriteFile(file, []byte(changelog), 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(root, "tools", "notes.awk")
	notes, err := exec.Command("awk", "-v", "version="+version, "-f", script, file).Output()
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if (err == nil) != (len(notes) > 0) {
		t.Errorf("%s: printed %q (%v)", version, notes, err)
	}
	return string(notes)
}
