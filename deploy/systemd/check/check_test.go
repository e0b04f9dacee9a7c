//go:build linux

// Package check tries what is in deploy/systemd, with systemd's own tools and with the
// real iamproxy, started as systemd would start it.
package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is the iamproxy that is run.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "iamproxy")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/iamproxy")
	build.Dir = "../../.."
	if said, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, said))
	}
	m.Run()
}

var units = []string{"iamproxy.service", "iamproxy@.service", "iamproxy.socket"}

// installed is a root directory with what the README has people install.
func installed(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for file, in := range map[string]string{
		"../iamproxy.service": "etc/systemd/system", "../iamproxy@.service": "etc/systemd/system", "../iamproxy.socket": "etc/systemd/system",
		program: "usr/local/bin", "../iamproxy-restart": "usr/local/bin",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, in), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o755)
		if in != "usr/local/bin" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(root, in, filepath.Base(file)), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	// What the units lean on, so that the machine's own need not be there.
	for _, target := range []string{"sysinit", "basic", "shutdown", "sockets", "multi-user", "network-online"} {
		if err := os.WriteFile(filepath.Join(root, "etc/systemd/system", target+".target"), []byte("[Unit]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// verify is what systemd has to say of the units, which is nothing if all is well.
func verify(root string) (string, error) {
	args := []string{"verify", "--root=" + root}
	for _, unit := range units {
		args = append(args, strings.Replace(unit, "@.", "@0.", 1))
	}
	said, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	return string(said), err
}

func TestUnitsAreValid(t *testing.T) {
	if said, err := verify(installed(t)); err != nil || said != "" {
		t.Errorf("%v: %s", err, said)
	}
}

// TestMistakes makes one each, to see whether it is noticed.
func TestMistakes(t *testing.T) {
	for old, wrong := range map[string]string{
		"ProtectHome=yes":          "ProtctHome=yes",
		"RestartSec=2":             "RestartSec=soon",
		"SystemCallFilter=@system": "SystemCallFilter=@none",
		"/usr/local/bin/iamproxy":  "/usr/local/bin/iamprox",
		"[Install]":                "[Instal]",
	} {
		root := installed(t)
		unit := filepath.Join(root, "etc/systemd/system/iamproxy.service")
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), old, wrong, 1)
		if changed == string(text) {
			t.Fatalf("no %q in it", old)
		}
		if err := os.WriteFile(unit, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if said, err := verify(root); err == nil && said == "" {
			t.Errorf("%s was not noticed", wrong)
		}
	}
}

// TestUnitsAreHardened has systemd judge them, from 0 (nothing exposed) to 100.
func TestUnitsAreHardened(t *testing.T) {
	root := installed(t)
	for _, unit := range []string{"iamproxy.service", "iamproxy@0.service"} {
		said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", "--root="+root, unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", unit, err, said)
		}
	}
}

// TestTheTwoAreAlike but for what makes them two.
func TestTheTwoAreAlike(t *testing.T) {
	differ := []string{"Description=", "Requires=", "Conflicts=", "Sockets=", "ExecStart=", "TimeoutStopSec=", "DefaultInstance="}
	settings := func(unit string) (kept []string) {
		for _, line := range lines(t, unit) {
			different := false
			for _, prefix := range differ {
				different = different || strings.HasPrefix(line, prefix)
			}
			if !different {
				kept = append(kept, line)
			}
		}
		return kept
	}
	one, other := strings.Join(settings("iamproxy.service"), "\n"), strings.Join(settings("iamproxy@.service"), "\n")
	if one != other {
		t.Errorf("one has\n%s\nand the other\n%s", one, other)
	}
}

// lines are those of a unit that say something.
func lines(t *testing.T, unit string) (said []string) {
	t.Helper()
	text, err := os.ReadFile("../" + unit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			said = append(said, line)
		}
	}
	return said
}

// setting is the last value that a unit gives something.
func setting(t *testing.T, unit, name string) (value string) {
	t.Helper()
	for _, line := range lines(t, unit) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			value = v
		}
	}
	if value == "" {
		t.Fatalf("%s has no %s", unit, name)
	}
	return value
}
