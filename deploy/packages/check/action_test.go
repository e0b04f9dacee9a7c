//go:build linux

package check

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const action = repository + "/.github/actions/setup-iamproxy/setup.sh"

// TestAction runs the script of the action setup-iamproxy against a server with a release. The
// program prints its arguments, and a stand-in for gh has the exit code of the test.
func TestAction(t *testing.T) {
	program := "#!/bin/sh\necho \"iamproxy $*\"\n"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(program)))
	sums := sum + "  iamproxy-linux-amd64\n" + sum + "  iamproxy-darwin-arm64\n" + sum + "  iamproxy-windows-amd64.exe\n"
	for name, test := range map[string]struct {
		version, system, arch string
		sums                  string
		attestation           string // exit code of gh; "": there is no gh
		program               string // in the directory on the PATH; "": an error
	}{
		"Linux":             {"v1.2.3", "Linux", "X64", sums, "0", "iamproxy"},
		"macOS":             {"v1.2.3-rc.1", "macOS", "ARM64", sums, "0", "iamproxy"},
		"Windows":           {"v1.2.3", "Windows", "X64", sums, "0", "iamproxy.exe"},
		"other checksum":    {"v1.2.3", "Linux", "X64", strings.Repeat("0", 64) + "  iamproxy-linux-amd64\n", "0", ""},
		"no checksum":       {"v1.2.3", "Linux", "X64", sum + "  iamproxy-linux-amd64.deb\n", "0", ""},
		"no attestation":    {"v1.2.3", "Linux", "X64", sums, "1", ""},
		"no release for it": {"v1.2.3", "Windows", "ARM64", sums, "0", ""},
		"no such release":   {"v9.9.9", "Linux", "X64", sums, "0", ""},
		"a branch":          {"main", "Linux", "X64", sums, "0", ""},
		"a command":         {"v1.2.3;id", "Linux", "X64", sums, "0", ""},
		"a second line":     {"v1.2.3\n::warning::x", "Linux", "X64", sums, "0", ""},
		"no gh":             {"v1.2.3", "Linux", "X64", sums, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var requests int
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				switch _, file, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); {
				case !strings.HasPrefix(r.URL.Path, "/"+test.version+"/") || test.version == "v9.9.9":
					http.NotFound(w, r)
				case file == "SHA256SUMS":
					fmt.Fprint(w, test.sums)
				case strings.Contains(sums, "  "+file+"\n"):
					fmt.Fprint(w, program)
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			dir := t.TempDir()
			// Only what the script needs, since the machine may have a gh.
			for _, name := range []string{"bash", "sh", "curl", "grep", "sha256sum", "mktemp", "mkdir", "mv", "chmod", "touch"} {
				program, err := exec.LookPath(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			want := "attestation verify --repo iamproxy/iamproxy --source-ref refs/tags/" + test.version
			gh := "#!/bin/sh\n[ \"$1 $2 $4 $5 $6 $7\" = '" + want + "' ] && [ -f \"$3\" ] && exit " + test.attestation + "\nexit 9\n"
			if test.attestation != "" {
				if err := os.WriteFile(filepath.Join(dir, "gh"), []byte(gh), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "path")
			run := func() (string, error) {
				cmd := exec.Command("bash", action)
				cmd.Env = []string{"PATH=" + dir, "RUNNER_OS=" + test.system, "RUNNER_ARCH=" + test.arch, "RUNNER_TEMP=" + dir,
					"RUNNER_TOOL_CACHE=" + filepath.Join(dir, "tools"), "GITHUB_PATH=" + path, "VERSION=" + test.version, "RELEASES=" + server.URL}
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := run()
			added, _ := os.ReadFile(path)
			if test.program == "" {
				if err == nil || !strings.Contains(out, "::error ") || strings.Count("\n"+out, "\n::") != 1 || len(added) != 0 {
					t.Errorf("%v, adds %q to the PATH: %s", err, added, out)
				}
				if (test.attestation == "") != strings.Contains(out, "the runner has no gh") {
					t.Errorf("a wrong reason: %s", out)
				}
				return
			}
			if err != nil || !strings.HasSuffix(out, "\niamproxy version\n") {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(added)), test.program)); err != nil {
				t.Error(err)
			}
			before := requests
			if out, err := run(); err != nil || requests != before {
				t.Errorf("%d requests with a full cache: %v: %s", requests-before, err, out)
			}
		})
	}
}

// Scripts of the packages and of the action have no faults that ShellCheck finds.
func TestScripts(t *testing.T) {
	scripts := []string{action, "../postinstall", "../preremove", "../postremove", "../../systemd/iamproxy-restart"}
	more, err := filepath.Glob("../openrc/*")
	if err != nil || len(more) == 0 {
		t.Fatalf("%v, %d scripts for OpenRC", err, len(more))
	}
	tool(t, "shellcheck", append(scripts, more...)...)
}

// The pages use the inputs that the action has, and the version of the pages.
func TestActionOnPages(t *testing.T) {
	definition, err := os.ReadFile(filepath.Join(filepath.Dir(action), "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(repository + "/docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	use := regexp.MustCompile(`uses: iamproxy/iamproxy/(\S+)@(\S+)\n    with: { (\w+): (\S+) }\n`).FindSubmatch(page)
	if use == nil {
		t.Fatal("docs/install.md does not use the action")
	}
	if path := string(use[1]); path != ".github/actions/setup-iamproxy" {
		t.Errorf("docs/install.md uses %s", path)
	}
	if !strings.Contains(string(definition), "\ninputs:\n  "+string(use[3])+":\n") || string(use[4]) != later || string(use[2]) != later {
		t.Errorf("docs/install.md sets %s to %s, for the action of %s", use[3], use[4], use[2])
	}
}
