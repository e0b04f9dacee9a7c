//go:build linux

// Package check tests deploy/systemd with systemd's own tools and with the real iamproxy,
// started as systemd starts it.
package check

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// program is the path of the iamproxy under test.
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

// installBlock matches the commands of the README that install the files.
var installBlock = regexp.MustCompile("(?ms)^ *```sh\n( *install -m .*?)^ *systemctl daemon-reload\n *```$")

// installed returns a root directory in which the commands of the README have installed the files.
func installed(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for _, dir := range []string{"usr/local/bin", "etc/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := installBlock.FindSubmatch(page)
	if block == nil {
		t.Fatal("the README installs nothing")
	}
	install := exec.Command("sh", "-euc", strings.NewReplacer(" bin/iamproxy", " "+program, " /", " "+root+"/").Replace(string(block[1])))
	install.Dir = "../../.."
	if said, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if env, err := os.ReadFile(filepath.Join(root, "etc/iamproxy/env")); err != nil || string(env) != example(t) {
		t.Fatalf("env.example is not installed: %v", err)
	}
	// The targets that the units name, which this machine may lack.
	for _, target := range []string{"sysinit", "basic", "shutdown", "sockets", "multi-user", "network-online"} {
		if err := os.WriteFile(filepath.Join(root, "etc/systemd/system", target+".target"), []byte("[Unit]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// verify returns the complaints of systemd-analyze about the units.
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

// TestMistakes makes one mistake at a time, which systemd-analyze has to find.
func TestMistakes(t *testing.T) {
	for old, wrong := range map[string]string{
		"ProtectHome=yes":          "ProtctHome=yes",
		"RestartSec=2":             "RestartSec=soon",
		"SystemCallFilter=@system": "SystemCallFilter=@none",
		"ExecStart=iamproxy":       "ExecStart=iamprox",
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
			t.Errorf("%s was not found", wrong)
		}
	}
}

// dropIn matches the settings that the README adds to a unit.
var dropIn = regexp.MustCompile("(?ms)^```ini\n(.*?)^```$")

// The settings that the README adds are valid in both units, and have their effect.
func TestDropIns(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	root := installed(t)
	blocks := dropIn.FindAllSubmatch(page, -1)
	if len(blocks) < 2 {
		t.Fatalf("the README has %d of them", len(blocks))
	}
	for n, block := range blocks {
		for _, unit := range []string{"iamproxy.service", "iamproxy@.service"} {
			dir := filepath.Join(root, "etc/systemd/system", unit+".d")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.conf", n)), block[1], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if said, err := verify(root); err != nil || said != "" {
		t.Errorf("%v: %s", err, said)
	}
	said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--root="+root, "iamproxy.service").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, setting := range []string{"PrivateUsers=", "RestrictAddressFamilies=~AF_NETLINK", "RestrictAddressFamilies=~AF_(INET|INET6)"} {
		if !bytes.Contains(said, []byte("✗ "+setting)) {
			t.Errorf("%s still applies: %s", setting, said)
		}
	}
	if !bytes.Contains(said, []byte("✓ RestrictAddressFamilies=~AF_PACKET")) {
		t.Errorf("all address families are allowed: %s", said)
	}
}

// TestUnitsAreHardened limits the exposure that systemd-analyze computes, from 0 to 100.
func TestUnitsAreHardened(t *testing.T) {
	root := installed(t)
	for _, unit := range []string{"iamproxy.service", "iamproxy@0.service"} {
		said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", "--root="+root, unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", unit, err, said)
		}
	}
}

// TestTheTwoAreAlike compares the two units, except for the settings that must differ.
func TestTheTwoAreAlike(t *testing.T) {
	differ := []string{"Description=", "Requires=", "Conflicts=", "Sockets=", "NonBlocking=", "ExecStart=", "TimeoutStopSec=", "DefaultInstance="}
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

// lines returns the lines of a unit without comments and empty lines.
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

// setting returns the last value of a setting in a unit.
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
