//go:build linux

package container

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The base images, by their real names. Those with a shell are hollow: they have no
// programs but Tools, from this machine.
const (
	golangImage     = "docker.io/library/golang:1.26"
	PostgresImage   = "docker.io/library/postgres:18"
	distrolessImage = "gcr.io/distroless/static-debian12:nonroot"
)

// Tools are the programs that a hollow image needs, by their paths.
func Tools() map[string]string { return map[string]string{"/usr": "/usr"} }

// tools are Tools and what builds need: Go, and its module and build caches, if any.
func (s *Images) tools() map[string]string {
	s.t.Helper()
	env := goEnv(s.t)
	s.must(os.MkdirAll(env["GOMODCACHE"], 0o755))
	s.must(os.MkdirAll(env["GOCACHE"], 0o755))
	tools := Tools()
	tools["/usr/local/go"] = env["GOROOT"]
	tools["/etc/ssl"] = "/etc/ssl"
	tools["/go/pkg/mod"] = env["GOMODCACHE"]
	tools["/root/.cache/go-build"] = env["GOCACHE"]
	return tools
}

// mode is the mode of the mount.
func mode(to string) string {
	if strings.HasPrefix(to, "/go/") || strings.HasPrefix(to, "/root/") {
		return "rw"
	}
	return "ro"
}

func goEnv(t testing.TB) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "env", "-json", "GOROOT", "GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	var env map[string]string
	if err := json.Unmarshal(out, &env); err != nil {
		t.Fatal(err)
	}
	return env
}

// makeBases makes the base images.
func (s *Images) makeBases() {
	s.t.Helper()
	go1 := goEnv(s.t)
	s.Base(golangImage, s.Hollow("/go"),
		"ENV GOPATH=/go GOTOOLCHAIN=local GOPROXY="+go1["GOPROXY"]+" GOSUMDB="+go1["GOSUMDB"]+
			" PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"WORKDIR /go")

	postgres := s.Hollow()
	servers, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	if len(servers) == 0 {
		s.t.Fatal("there is no PostgreSQL of Debian's")
	}
	s.Base(PostgresImage, postgres,
		"ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"+slices.Max(servers),
		`ENTRYPOINT ["/usr/bin/env"]`) // stands in for the image's own entrypoint, which runs any command but the server unchanged

	distroless := s.Skeleton("/home/nonroot", "/etc/ssl/certs")
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	s.must(err)
	s.must(os.WriteFile(filepath.Join(distroless, "etc/ssl/certs/ca-certificates.crt"), roots, 0o644))
	s.must(os.WriteFile(filepath.Join(distroless, "etc/passwd"),
		[]byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"), 0o644))
	s.Base(distrolessImage, distroless,
		"USER 65532", "WORKDIR /home/nonroot",
		"ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt")
}

// Skeleton makes the directories that every image has, and more.
func (s *Images) Skeleton(more ...string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, name := range append([]string{"/dev", "/etc", "/proc", "/tmp"}, more...) {
		s.must(os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	s.must(os.Chmod(dir, 0o755))
	s.must(os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	return dir
}

// Hollow returns a skeleton to be filled with Tools. It has the users of this machine.
func (s *Images) Hollow(more ...string) string {
	s.t.Helper()
	dir := s.Skeleton(append(more, "/usr", "/root", "/run", "/var/tmp")...)
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		s.must(os.Symlink("usr/"+name, filepath.Join(dir, name)))
	}
	for _, name := range []string{"/etc/passwd", "/etc/group"} {
		content, err := os.ReadFile(name)
		s.must(err)
		s.must(os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	return dir
}

// Base makes an image of a directory and lines of a Dockerfile, which others can be built on.
func (s *Images) Base(name, dir string, lines ...string) {
	s.t.Helper()
	dockerfile := filepath.Join(s.t.TempDir(), "Dockerfile")
	text := "FROM scratch\nCOPY . /\n" + strings.Join(lines, "\n") + "\n"
	s.must(os.WriteFile(dockerfile, []byte(text), 0o644))
	s.bud("--file", dockerfile, "--tag", name, dir)
}

func (s *Images) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
