package main

import (
	"bytes"
	"os"
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
  behind it
  - and below
- three

## [1.2.0-rc.1] - 2026-05-01

- a try

## [1.1.0] - 2026-04-31

- a day that there is not

## [1.0.1] - 2026-03-02

## [1.0.0] - 2026-03-01

- one

[Unreleased]: https://example.com/compare/v1.2.0...main
[1.2.0]: https://example.com/releases/tag/v1.2.0
`

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "CHANGELOG.md")
	if err := os.WriteFile(file, []byte(changelog), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string // a part of it
	}{
		{"in the middle", []string{"v1.2.0"}, 0, "### Added\n\n- two, see [1.1.0], with more behind it\n  - and below\n- three\n", ""},
		{"a version that begins as another", []string{"v1.2.0-rc.1"}, 0, "- a try\n", ""},
		{"the last, without the links", []string{"v1.0.0"}, 0, "- one\n", ""},
		{"without a v", []string{"1.0.0"}, 0, "- one\n", ""},
		{"not there", []string{"v1.3.0"}, 1, "", `no line begins with "## [1.3.0] - "`},
		{"a part of a version", []string{"v1.2"}, 1, "", `no line begins with "## [1.2] - "`},
		{"not released", []string{"Unreleased"}, 1, "", "no line begins with"},
		{"no such day", []string{"v1.1.0"}, 1, "", `"2026-04-31", which is no day`},
		{"empty", []string{"v1.0.1"}, 1, "", "nothing stands below"},
		{"no version", nil, 2, "", "which version?"},
		{"two versions", []string{"v1.0.0", "v1.2.0"}, 2, "", "which version?"},
		{"unknown flag", []string{"-x", "v1.0.0"}, 2, "", "not defined"},
		{"no file", []string{"-file", file + ".md", "v1.0.0"}, 1, "", "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(append([]string{"-file", file}, test.args...), &stdout, &stderr)
			if code != test.code || stdout.String() != test.stdout || !strings.Contains(stderr.String(), test.stderr) || (stderr.Len() > 0) != (test.code > 0) {
				t.Errorf("exit code %d, printed %q and %q; want %d, %q and %q", code, stdout.String(), stderr.String(), test.code, test.stdout, test.stderr)
			}
		})
	}
}

// Unreleased changes have a heading of their own, which a release renames.
func TestOurChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n## [Unreleased]\n"); n != 1 {
		t.Fatalf("CHANGELOG.md has %d headings for what is not released, want 1", n)
	}
	released := strings.Replace(string(text), "\n## [Unreleased]\n", "\n## [Unreleased]\n\n## [99.0.0] - 2099-12-31\n\n- something\n", 1)
	if notes, err := section(released, "99.0.0"); err != nil || !strings.HasPrefix(notes, "- something") || strings.Contains(notes, "]: ") {
		t.Errorf("notes of it: %q (%v)", notes, err)
	}
}
