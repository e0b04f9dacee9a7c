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

// ErrNotInstalled reports that no PostgreSQL server is installed.
var ErrNotInstalled = errors.New("no PostgreSQL server found: install the distribution's postgresql package or set PG_BINDIR")

// BinDir returns the directory with PostgreSQL's programs: $PG_BINDIR, the output of
// pg_config, the newest of Debian's /usr/lib/postgresql/*/bin, or the PATH. If PG_BINDIR is
// set, BinDir looks nowhere else.
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

// candidates returns the directories that may have a server, best first.
func candidates() []string {
	var dirs []string
	// pg_config is also part of the client's headers, without a server.
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	versioned, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	slices.SortFunc(versioned, func(a, b string) int { return debianVersion(b) - debianVersion(a) })
	dirs = append(dirs, versioned...)
	if postgres, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(postgres))
	}
	return dirs
}

// debianVersion returns the 15 of /usr/lib/postgresql/15/bin.
func debianVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // others sort last, as 0
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
