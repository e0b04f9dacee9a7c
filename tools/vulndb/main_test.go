package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const reported = `{"id": "GO-2020-0001", "aliases": ["CVE-2020-1"], "affected": [
	{"package": {"name": "example.com/a"}, "ranges": [{"events": [{"introduced": "0"}, {"fixed": "1.2.0"}, {"introduced": "1.3.0"}, {"fixed": "1.3.1"}]}]},
	{"package": {"name": "example.com/b"}, "ranges": [{"events": [{"introduced": "0"}]}]},
	{"package": {"name": "example.com/b"}, "ranges": [{"events": [{"introduced": "2.0.0"}, {"fixed": "2.1.0"}]}]},
	{"package": {"name": "example.com/c"}, "ranges": [{"events": [{"introduced": "0"}, {"fixed": "1.10.0"}]}]},
	{"package": {"name": "example.com/c"}, "ranges": [{"events": [{"introduced": "1.2.0"}, {"fixed": "1.9.0"}]}]}]}`

func TestConvert(t *testing.T) {
	source, to := t.TempDir(), filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(filepath.Join(source, "GO-2020-0001.json"), []byte(reported), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if n, err := convert(source, to, at); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	for file, want := range map[string]string{
		"index/db.json":        `{"modified":"2026-01-02T03:04:05Z"}`,
		"index/vulns.json":     `[{"id":"GO-2020-0001","modified":"2026-01-02T03:04:05Z","aliases":["CVE-2020-1"]}]`,
		"index/modules.json":   `[{"path":"example.com/a","vulns":[{"id":"GO-2020-0001","modified":"2026-01-02T03:04:05Z","fixed":"1.3.1"}]},{"path":"example.com/b","vulns":[{"id":"GO-2020-0001","modified":"2026-01-02T03:04:05Z"}]},{"path":"example.com/c","vulns":[{"id":"GO-2020-0001","modified":"2026-01-02T03:04:05Z","fixed":"1.10.0"}]}]`,
		"ID/GO-2020-0001.json": reported,
	} {
		got, err := os.ReadFile(filepath.Join(to, file))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", file, got, err, want)
		}
	}
	if !json.Valid([]byte(reported)) {
		t.Error("that is no JSON")
	}
	// A malformed entry is an error, and no empty database.
	if err := os.WriteFile(filepath.Join(source, "GO-2020-0002.json"), []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := convert(source, to, at); err == nil {
		t.Error("garbage was taken for an entry")
	}
}
