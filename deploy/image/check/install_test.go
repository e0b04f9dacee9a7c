//go:build linux

package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/container"
)

const (
	repository = "../../.."
	reference  = "ghcr.io/iamproxy/iamproxy:" + version
	ecr        = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:" + version
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// block returns the one shell block of docs/install.md that contains text.
func block(t *testing.T, text string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository, "docs/install.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, b := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(b[1], text) {
			found = append(found, b[1])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks with %q, want 1", len(found), text)
	}
	return found[0]
}

// shell runs blocks of the page in a directory.
type shell struct {
	dir  string
	home string
	bin  string   // first in the PATH
	env  []string // of this machine, and of the test
}

// newShell returns a shell with the Go of this machine, and with another HOME.
func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	s := &shell{dir: dir, home: t.TempDir(), bin: t.TempDir()}
	for _, variable := range []string{"GOPATH", "GOMODCACHE", "GOCACHE", "GOPROXY"} { // not below the other HOME
		value, err := exec.Command("go", "env", variable).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.env = append(s.env, variable+"="+strings.TrimSpace(string(value)))
	}
	return s
}

// stub puts a shell script on the PATH, in place of a program that is not available here.
func (s *shell) stub(t *testing.T, program, body string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.bin, program), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (s *shell) run(t *testing.T, block string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", block)
	cmd.Dir = s.dir
	cmd.Env = append(append(os.Environ(), s.env...), "PATH="+s.bin+":"+os.Getenv("PATH"), "HOME="+s.home, "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", block, err, out)
	}
	return string(out)
}

// The source builds from a clone of this repository, with a tag, in place of the public one.
func TestBuildFromSource(t *testing.T) {
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		t.Skip("not a git clone")
	}
	s := newShell(t, t.TempDir())
	public := filepath.Join(t.TempDir(), "iamproxy.git")
	config := "[url \"file://" + public + "\"]\n\tinsteadOf = https://github.com/iamproxy/iamproxy\n[safe]\n\tdirectory = *\n"
	if err := os.WriteFile(filepath.Join(s.home, ".gitconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, "git clone -q --bare 'file://"+root+"' "+public+"; git -C "+public+" tag --force "+version)
	if out := s.run(t, block(t, "git clone")+block(t, "bin/iamproxy ~/.local/bin/")+"~/.local/bin/iamproxy version\n"); strings.Count(out, "\niamproxy ") < 2 {
		t.Errorf("printed %s", out)
	}

	// The module cache of this machine must not keep the version, but has the other modules.
	modules := strings.TrimSpace(s.run(t, "go env GOMODCACHE"))
	s.env = append(s.env, "GOBIN="+s.bin, "GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw -trimpath", "CGO_ENABLED=0", "GOTOOLCHAIN=local",
		"GOPRIVATE=github.com/iamproxy/iamproxy", "GOPROXY=file://"+modules+"/cache/download", "GONOSUMDB=*")
	if out := s.run(t, block(t, "go install")+"iamproxy version"); !strings.Contains(out, "iamproxy "+version+" (commit unknown, go") {
		t.Errorf("printed %s", out)
	}
}

// `make image` builds the reference of all pages, and IMAGE changes its name.
func TestMakeImage(t *testing.T) {
	s := newShell(t, repository)
	s.stub(t, "docker", `[ "$1" = login ] && cat >/dev/null; echo "docker $*"`)
	s.stub(t, "aws", "echo password")
	if out := s.run(t, "make image VERSION="+version); !strings.Contains(out, "docker build --build-arg VERSION="+version+" ") || !strings.HasSuffix(out, " -t "+reference+" .\n") {
		t.Errorf("printed %s", out)
	}
	if out := s.run(t, block(t, "make image IMAGE=")); !strings.Contains(out, " -t "+ecr+" .\n") || !strings.Contains(out, "docker push "+ecr+"\n") {
		t.Errorf("printed %s", out)
	}
	if out := s.run(t, block(t, "buildx build")); !strings.Contains(out, "--build-arg VERSION="+version+" --build-arg COMMIT=") || !strings.HasSuffix(out, " --tag "+ecr+" --push .\n") {
		t.Errorf("printed %s", out)
	}
}

// The commands install a release, which is a directory here. A stub of curl copies from it.
func TestInstallRelease(t *testing.T) {
	s := newShell(t, t.TempDir())
	release := t.TempDir()
	program := container.Build(t, repository, "./cmd/iamproxy")
	s.stub(t, "gh", `[ "$1 $2 $4 $5" = "attestation verify --repo iamproxy/iamproxy" ] && [ -f "$3" ]`)
	s.stub(t, "curl", `for url; do
	case $url in
	https://github.com/iamproxy/iamproxy/releases/download/`+version+`/*) cp "`+release+`/${url##*/}" . ;;
	https:*) exit 22 ;;
	esac
done`)
	s.run(t, "cp "+program+" "+release+"/iamproxy-linux-amd64; cd "+release+"; sha256sum iamproxy* >SHA256SUMS")
	get := block(t, "$release/SHA256SUMS")
	if out := s.run(t, get+"~/.local/bin/iamproxy version\n"); !strings.Contains(out, "iamproxy-linux-amd64: OK\n") || !strings.Contains(out, "\niamproxy ") {
		t.Errorf("printed %s", out)
	}
	makefile, err := os.ReadFile(filepath.Join(repository, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	platforms := regexp.MustCompile(`(?m)^PLATFORMS = (.*)$`).FindSubmatch(makefile)
	for _, file := range regexp.MustCompile(`iamproxy-(\w+-\w+)`).FindAllStringSubmatch(get, -1) {
		if !slices.Contains(strings.Fields(string(platforms[1])), file[1]) {
			t.Errorf("make release builds no %s", file[0])
		}
	}
}

func TestManualPage(t *testing.T) {
	s := newShell(t, repository)
	s.run(t, block(t, "make man")+"test -s ~/.local/share/man/man1/iamproxy.1\n")
}

// checkDockerRun runs what docs/install.md runs with Docker. The container of the test is always
// read-only, and has no capabilities.
func checkDockerRun(t *testing.T, image container.Image) {
	run, wait, _ := strings.Cut(strings.ReplaceAll(block(t, "docker run"), "\\\n", " "), "\n")
	options, args, found := strings.Cut(run, reference)
	if !found {
		t.Fatalf("does not run %s: %s", reference, run)
	}
	for _, option := range []string{"--read-only", "--cap-drop ALL", "--network host", "--name iamproxy"} {
		if !strings.Contains(options, option) {
			t.Errorf("lacks %s: %s", option, options)
		}
	}
	network := container.NewNetwork(t)
	served := image.Container(strings.Fields(args)...)
	for _, variable := range container.Credentials() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "AWS_ACCESS") && !strings.Contains(options, "--env "+name) {
			t.Errorf("does not pass %s", name)
		}
		served.Env = append(served.Env, variable)
	}
	process := container.Start(t, served.Command(t, network))
	waiting := image.Container()
	waiting.Args = strings.Fields(strings.TrimPrefix(strings.TrimSpace(wait), "docker exec iamproxy "))
	if out, err := container.Run(waiting.Command(t, network)); err != nil {
		t.Errorf("not ready: %v %s", err, out)
	}
	process.Stop()
}
