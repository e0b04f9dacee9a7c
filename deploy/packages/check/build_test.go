//go:build linux

// Package check installs, runs, upgrades and removes the packages, in a clean Debian with systemd.
package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The versions that are built. Each is upgraded to the next.
const (
	earlier = "v1.2.3-rc.1"
	later   = "v1.2.3"
	commit  = "0123456789abcdef0123456789abcdef01234567"
)

// dist holds a directory for each version, with the files of a release for one platform.
var dist string

func TestMain(m *testing.M) {
	var err error
	if dist, err = os.MkdirTemp("", "packages"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dist)
	os.Exit(code) //nolint:forbidigo // TestMain exits
}

// release returns the directory of a version. The first call builds it.
func release(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join(dist, version)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	build := exec.Command("make", "-s", "-C", repository, "packages", "VERSION="+version, "COMMIT="+commit, "PLATFORMS=linux-amd64", "DIST="+dir)
	build.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make packages: %v: %s", err, out)
	}
	return dir
}

// file returns the package of a version, with a name that ends in format.
func file(t *testing.T, version, format string) string {
	t.Helper()
	path := filepath.Join(release(t, version), "iamproxy-linux-amd64."+format)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tool returns the output of a program.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The packages of a tag have its version, and those of a build between releases have 0.0.0. A tag
// that package managers cannot compare is refused.
func TestVersions(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "v1.2.3", "v1.2.3-rc.1": "v1.2.3-rc.1", "v1.2.3-4-gabc1234": "0.0.0", "v1.2.3-rc.1-4-gabc1234": "0.0.0", "v1.2.3-dirty": "0.0.0", "0123abc": "0.0.0", "dev": "0.0.0",
		"v1.2.3-rc1": "", "v1.2.3-hotfix": "", "v1.2": "", "v1.2.3.4": "",
	} {
		dry := exec.Command("make", "-n", "-C", repository, "packages", "VERSION="+version)
		dry.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
		out, err := dry.CombinedOutput()
		if (err != nil) != (want == "") || err == nil && !strings.Contains(string(out), "\tversion="+want+";") {
			t.Errorf("%s: %v, want %q", version, err, want)
		}
	}
}
