//go:build unix

package aurora

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNotInstalled: there is no PostgreSQL server on this machine.
var ErrNotInstalled = errors.New("no PostgreSQL server found: install the distribution's postgresql package or set PG_BINDIR")

// BinDir finds the directory with PostgreSQL's programs: $PG_BINDIR, what
// pg_config says, the newest of Debian's /usr/lib/postgresql/*/bin, or the
// PATH. If PG_BINDIR is set, nowhere else is looked.
func BinDir() (string, error) {
	if dir := os.Getenv("PG_BINDIR"); dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("PG_BINDIR has no initdb and postgres: %w", ErrNotInstalled)
		}
		return dir, nil
	}
	for _, dir := range candidates() {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", ErrNotInstalled
}

// candidates are the directories that may have a server, best first.
func candidates() []string {
	var dirs []string
	// pg_config comes with the client's headers, too: without a server.
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	versioned, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is a good one
	slices.SortFunc(versioned, func(a, b string) int { return debianVersion(b) - debianVersion(a) })
	dirs = append(dirs, versioned...)
	if postgres, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(postgres))
	}
	return dirs
}

// debianVersion is the 15 of /usr/lib/postgresql/15/bin.
func debianVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // others come last, as 0
	return version
}

func hasServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}
