//go:build linux

package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHomebrew installs the formula with a stand-in for Homebrew, from a release whose other
// binaries are dummies.
func TestHomebrew(t *testing.T) {
	dir := release(t, later)
	for _, name := range []string{"linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64.exe"} {
		if err := os.WriteFile(filepath.Join(dir, "iamproxy-"+name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	manifests := exec.Command("go", "run", "./tools/manifests", "-version", later, "-dist", dir)
	manifests.Dir = repository
	if out, err := manifests.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	formula := filepath.Join(dir, "iamproxy.rb")
	tool(t, "ruby", "-wc", formula)
	for system, file := range map[string]string{"macos arm": "darwin-arm64", "macos intel": "darwin-amd64", "linux arm": "linux-arm64", "linux intel": "linux-amd64"} {
		t.Run(system, func(t *testing.T) {
			prefix := t.TempDir()
			args := append([]string{"testdata/homebrew.rb", formula}, strings.Fields(system)...)
			if got, want := strings.TrimSpace(tool(t, "ruby", append(args, dir, prefix)...)), "https://github.com/iamproxy/iamproxy/releases/download/"+later+"/iamproxy-"+file; got != want {
				t.Errorf("it downloads %s, want %s", got, want)
			}
			if system != "linux intel" {
				return
			}
			for _, name := range []string{"bin/iamproxy", "share/man/man1/iamproxy.1", "share/doc/iamproxy/iamproxy.licenses.txt", "etc/bash_completion.d/iamproxy", "share/zsh/site-functions/_iamproxy", "share/fish/vendor_completions.d/iamproxy.fish"} {
				if info, err := os.Stat(filepath.Join(prefix, name)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	if err := os.WriteFile(filepath.Join(dir, "iamproxy-darwin-arm64"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ruby", "testdata/homebrew.rb", formula, "macos", "arm", dir, t.TempDir()).CombinedOutput(); err == nil || !strings.Contains(string(out), "another checksum") {
		t.Errorf("a damaged file: %v: %s", err, out)
	}
}
