package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each manifest has the addresses of files of the release, each followed by its checksum.
func TestRun(t *testing.T) {
	dist := t.TempDir()
	files := []string{"iamproxy-darwin-arm64", "iamproxy-darwin-amd64", "iamproxy-linux-arm64", "iamproxy-linux-amd64", "iamproxy-windows-amd64.exe", "iamproxy.licenses.txt"}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dist, file), []byte("content of "+file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run("v1.2.3-rc.1", dist); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"iamproxy.rb":                         {files[0], files[1], files[2], files[3], files[5]},
		"iamproxy.json":                       {files[4], files[5]},
		"iamproxy.iamproxy.installer.yaml":    {files[4]},
		"iamproxy.iamproxy.yaml":              nil,
		"iamproxy.iamproxy.locale.en-US.yaml": nil,
	} {
		content, err := os.ReadFile(filepath.Join(dist, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if !strings.Contains(text, "1.2.3-rc.1") {
			t.Errorf("%s has no version: %s", name, text)
		}
		var found []string
		for _, match := range regexp.MustCompile(`https://github\.com/iamproxy/iamproxy/releases/download/v1\.2\.3-rc\.1/([\w.-]+)`).FindAllStringSubmatch(text, -1) {
			found = append(found, match[1])
		}
		if !slices.Equal(found, want) {
			t.Errorf("%s downloads %q, want %q", name, found, want)
		}
		sums := regexp.MustCompile(`\b[0-9a-f]{64}\b`).FindAllString(text, -1)
		var wantSums []string
		for _, file := range want {
			sum, err := checksum(filepath.Join(dist, file))
			if err != nil {
				t.Fatal(err)
			}
			wantSums = append(wantSums, sum)
		}
		if !slices.Equal(sums, wantSums) {
			t.Errorf("%s has the checksums %q, want %q", name, sums, wantSums)
		}
		if filepath.Ext(name) == ".json" && !json.Valid(content) {
			t.Errorf("%s is no JSON: %s", name, text)
		}
	}
	if err := os.Remove(filepath.Join(dist, files[0])); err != nil {
		t.Fatal(err)
	}
	if err := run("v1.2.3", dist); err == nil {
		t.Error("no error for a missing file")
	}
	if err := run("", dist); err == nil {
		t.Error("no error without a version")
	}
}
