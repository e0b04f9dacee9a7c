//go:build linux

package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/iamproxy/iamproxy/test/container"
)

func TestMain(m *testing.M) {
	os.Exit(container.Main(m)) //nolint:forbidigo // required in TestMain
}

// host runs the services of a project as Docker Compose does, as far as these projects need it.
type host struct {
	t       *testing.T
	project *types.Project
	images  *container.Images
	built   map[string]container.Image // by name, of the service or of the image
	volumes map[string]string          // directories
	hosts   string                     // file with the services' names
}

// The services of compose.yaml and of the README's project build and run, and psql logs in
// without a password.
func TestUp(t *testing.T) {
	project := mustLoad(t)
	h := &host{t: t, project: project, images: container.NewImages(t), built: map[string]container.Image{}, volumes: map[string]string{}}
	there, here := container.NewNetwork(t), container.NewNetwork(t)
	address := container.Join(t, there, here)
	h.hosts = filepath.Join(t.TempDir(), "hosts")
	hosts := "127.0.0.1 localhost\n" + address + " standin\n"
	if err := os.WriteFile(h.hosts, []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}

	standin := h.container("standin")
	for to, from := range container.Tools() {
		standin.Mounts[to] = from
	}
	server := container.StartUntil(t, standin.Command(t, there), func(line string) bool { return strings.Contains(line, "takes logins at") })
	h.healthy("standin", standin, there)

	iamproxy := h.container("iamproxy")
	if _, err := container.Run(h.check("iamproxy", iamproxy).Command(t, here)); err == nil {
		t.Error("iamproxy is healthy before it runs")
	}
	proxy := container.Start(t, iamproxy.Command(t, here))
	h.healthy("iamproxy", iamproxy, here)

	app := h.container("app")
	for to, from := range container.Tools() {
		app.Mounts[to] = from
	}
	if mode := project.Services["app"].NetworkMode; mode != "service:iamproxy" {
		t.Errorf("the network of the application: %s", mode)
	}
	out, err := container.Run(app.Command(t, here))
	for _, want := range []string{"current_user", "| iam_user", "| mydb", "| t", "| TLSv1.3"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("not %q, %v in what psql says:\n%s\niamproxy:\n%s", want, err, out, proxy.Log())
		}
	}
	// A user without rds_iam gets an error with the cause.
	app.Args = append(app.Args[:1:1], "psql", "-U", "plain_user") // after the entrypoint
	if out, err := container.Run(app.Command(t, here)); err == nil || !strings.Contains(out, `is not a member of rds_iam`) {
		t.Errorf("psql as plain_user: %v: %s", err, out)
	}
	proxy.Stop()
	h.upReadme(here)
	server.Stop()
}

// upReadme runs the README's project, with the stand-in as the database.
func (h *host) upReadme(here container.Network) {
	t := h.t
	t.Helper()
	own := *h
	own.project = mustLoadReadme(t)
	user := "iam_user"
	own.project.Services["app"].Environment["PGUSER"] = &user
	h.built[reference] = h.built["iamproxy"]
	iamproxy := own.container("iamproxy")
	iamproxy.Env = append(iamproxy.Env, "IAMPROXY_VIA=standin:5432", "IAMPROXY_CA_FILE=/ca/ca.pem")
	iamproxy.Mounts["/ca"] = h.volumes["ca"]
	proxy := container.Start(t, iamproxy.Command(t, here))
	own.healthy("iamproxy", iamproxy, here)
	app := own.container("app")
	for to, from := range container.Tools() {
		app.Mounts[to] = from
	}
	app.User = "postgres" // container runs no root
	if out, err := container.Run(app.Command(t, here)); err != nil || !strings.Contains(out, "iam_user") {
		t.Errorf("psql of the README's project: %v: %s\niamproxy:\n%s", err, out, proxy.Log())
	}
	proxy.Stop()
}

// image returns the image of a service, built if the service has a build.
func (h *host) image(name string) container.Image {
	h.t.Helper()
	service := h.project.Services[name]
	if build := service.Build; build != nil {
		h.built[name] = h.images.Build(filepath.Join(build.Context, build.Dockerfile), build.Context)
		return h.built[name]
	}
	if image, ok := h.built[service.Image]; ok {
		return image
	}
	return h.images.Image(service.Image)
}

// container returns the container of a service.
func (h *host) container(name string) container.Container {
	h.t.Helper()
	service := h.project.Services[name]
	image := h.image(name)
	c := image.Container(service.Command...)
	if len(service.Entrypoint) != 0 {
		h.t.Fatalf("%s overrides the entrypoint", name)
	}
	if service.User != "" {
		c.User = service.User
	}
	c.Writable = !service.ReadOnly
	for variable, value := range service.Environment {
		if value != nil { // else unset where Compose runs
			c.Env = append(c.Env, fmt.Sprintf("%s=%s", variable, *value))
		}
	}
	c.Mounts = map[string]string{"/etc/hosts": h.hosts}
	for _, volume := range service.Volumes {
		c.Mounts[volume.Target] = h.volume(volume.Source, filepath.Join(image.Root, volume.Target))
	}
	return c
}

// volume returns the directory of a volume. A new one gets the owner of the directory in the
// image.
func (h *host) volume(name, inImage string) string {
	h.t.Helper()
	if dir, ok := h.volumes[name]; ok {
		return dir
	}
	info, err := os.Stat(inImage)
	if err != nil {
		h.t.Fatal(err)
	}
	dir := h.t.TempDir()
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chmod(dir, info.Mode()); err != nil {
		h.t.Fatal(err)
	}
	h.volumes[name] = dir
	return dir
}

// check returns the container with the health check of the service, or of its image.
func (h *host) check(name string, c container.Container) container.Container {
	h.t.Helper()
	test := h.built[h.project.Services[name].Image].Healthcheck.Test
	if check := h.project.Services[name].HealthCheck; check != nil {
		test = check.Test
	}
	switch test[0] {
	case "CMD":
		c.Args = test[1:]
	case "CMD-SHELL":
		c.Args = slices.Concat([]string{"/bin/sh", "-c"}, test[1:])
	default:
		h.t.Fatalf("%s: health check %q", name, test)
	}
	return c
}

// healthy waits until a service is healthy, for as long as Docker does. The health check of
// the image allows 30 seconds.
func (h *host) healthy(name string, c container.Container, n container.Network) {
	h.t.Helper()
	retries, interval := uint64(30), types.Duration(time.Second)
	if check := h.project.Services[name].HealthCheck; check != nil {
		retries, interval = *check.Retries, *check.Interval
	}
	for range retries {
		out, err := container.Run(h.check(name, c).Command(h.t, n))
		if err == nil {
			return
		}
		h.t.Logf("%s is not healthy yet: %v %s", name, err, out)
		time.Sleep(time.Duration(interval))
	}
	h.t.Fatalf("%s does not become healthy", name)
}
