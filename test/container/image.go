//go:build linux

package container

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Images is a store of images, which buildah builds without an engine. It fetches nothing
// from a registry: see base.go.
type Images struct {
	t   testing.TB
	dir string
}

// Config holds the relevant configuration of an image, with Docker's names.
type Config struct {
	User         string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	WorkingDir   string
	Labels       map[string]string
	ExposedPorts map[string]struct{}
	Healthcheck  Healthcheck
}

// Healthcheck is the health check of a container.
type Healthcheck struct {
	Test                           []string
	Interval, Timeout, StartPeriod time.Duration
}

// Image is a built image.
type Image struct {
	Config
	Root string // directory with its file system
}

// Container returns a container with the image's entrypoint and args, or the image's own
// command if there are none.
func (i Image) Container(args ...string) Container {
	if len(args) == 0 {
		args = i.Cmd
	}
	return Container{
		Root: i.Root, User: i.User, Dir: cmp.Or(i.WorkingDir, "/"),
		Env: slices.Clone(i.Env), Args: slices.Concat(i.Entrypoint, args),
	}
}

// NewImages makes a store that is removed after the test.
func NewImages(t testing.TB) *Images {
	t.Helper()
	s := &Images{t: t, dir: t.TempDir()}
	s.makeBases()
	return s
}

// buildah runs a command of buildah, and returns its output.
func (s *Images) buildah(command string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("buildah", append([]string{
		"--root", filepath.Join(s.dir, "root"), "--runroot", filepath.Join(s.dir, "run"), "--storage-driver", "vfs",
		command,
	}, args...)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("buildah %s %s: %v: %s%s", command, strings.Join(args, " "), err, out.String(), log.String())
	}
	return strings.TrimSpace(out.String())
}

// bud builds an image. Only the format of Docker has health checks.
func (s *Images) bud(args ...string) {
	s.t.Helper()
	s.buildah("bud", append([]string{"--isolation", "chroot", "--format", "docker", "--pull-never"}, args...)...)
}

// Build builds a Dockerfile with the build context in the directory context.
func (s *Images) Build(dockerfile, context string, buildArgs ...string) Image {
	s.t.Helper()
	const name = "localhost/built"
	args := []string{"--file", dockerfile, "--tag", name}
	for to, from := range s.tools() {
		args = append(args, "--volume", from+":"+to+":"+mode(to))
	}
	for _, arg := range buildArgs {
		args = append(args, "--build-arg", arg)
	}
	s.bud(append(args, context)...)
	return s.Image(name)
}

// Tag gives the image that was built last a name, for the FROM of others.
func (s *Images) Tag(name string) {
	s.t.Helper()
	s.buildah("tag", "localhost/built", name)
}

// Image returns an image of the store.
func (s *Images) Image(name string) Image {
	s.t.Helper()
	var inspected struct{ Docker struct{ Config Config } }
	if err := json.Unmarshal([]byte(s.buildah("inspect", "--type", "image", name)), &inspected); err != nil {
		s.t.Fatal(err)
	}
	container := s.buildah("from", "--pull-never", name)
	return Image{Config: inspected.Docker.Config, Root: s.buildah("mount", container)}
}
