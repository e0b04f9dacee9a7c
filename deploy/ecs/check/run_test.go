//go:build linux

package check

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/container"
)

func TestMain(m *testing.M) {
	os.Exit(container.Main(m)) //nolint:forbidigo // TestMain exits
}

// environment returns the variables of a container, and those of a task role.
func environment(c *types.ContainerDefinition) []string {
	env := container.Credentials()
	for _, variable := range c.Environment {
		env = append(env, *variable.Name+"="+*variable.Value)
	}
	return env
}

// healthCheck returns the command of the container's health check, in its network.
func healthCheck(c *types.ContainerDefinition, binary string, n container.Network) *exec.Cmd {
	command := slices.Clone(c.HealthCheck.Command[1:])
	if command[0] == "/iamproxy" {
		command[0] = binary
	}
	return n.Command(environment(c), command[0], command[1:]...)
}

// noDatabase is the error of iamproxy for a client, since the test has no DNS. soon is a variable with
// which it comes soon.
const (
	noDatabase = "FATAL:  iamproxy: could not resolve host name"
	soon       = "IAMPROXY_CONNECT_TIMEOUT=1s"
)

// TestSidecarRuns runs iamproxy with the variables of the task definition, its health check, and
// the application, and stops it as ECS does.
func TestSidecarRuns(t *testing.T) {
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	task := mustParse(t, "task-definition.json")
	c := containerNamed(task, "iamproxy")
	network := container.NewNetwork(t)
	if out, err := container.Run(healthCheck(c, binary, network)); err == nil {
		t.Errorf("healthy before it runs: %s", out)
	}
	process := container.Start(t, network.Command(append(environment(c), soon), binary, c.Command...))
	if out, err := container.Run(healthCheck(c, binary, network)); err != nil {
		t.Errorf("not healthy: %v %s", err, out)
	}
	if want := variable(c, "IAMPROXY_ENDPOINTS"); !strings.Contains(process.Log(), want) {
		t.Errorf("not for %s: %s", want, process.Log())
	}
	app := containerNamed(task, "app")
	command := network.Command(append(environment(app), "PATH="+os.Getenv("PATH")), app.Command[0], app.Command[1:]...)
	if out, err := container.Run(command); err == nil || !strings.Contains(out, noDatabase) {
		t.Errorf("the application: %v %s", err, out)
	}
	process.Stop()

	// A mistyped variable is an error.
	mistyped := append(environment(c), "IAMPROXY_LISEN=127.0.0.1:5433")
	out, err := container.Run(network.Command(mistyped, binary, c.Command...))
	if err == nil || !strings.Contains(out, "IAMPROXY_LISEN") {
		t.Errorf("mistyped: %v %s", err, out)
	}
}

// TestBridgeRuns runs the two containers of the task in separate networks, as their users, with the
// volume that Docker makes of its options.
func TestBridgeRuns(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0") // the container has no library of C
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	task := mustParse(t, "task-definition-bridge.json")
	c, app := containerNamed(task, "iamproxy"), containerNamed(task, "app")
	network := container.NewNetwork(t)
	volume := mountVolume(t, task.Volumes[0].DockerVolumeConfiguration.DriverOpts)

	sidecar := containerOf(t, c, volume, map[string]string{"/iamproxy": binary})
	sidecar.Args = append([]string{"/iamproxy"}, c.Command...)
	sidecar.Env = append(sidecar.Env, soon)
	process := container.Start(t, sidecar.Command(t, network))
	if out, err := container.Run(healthCheck(c, binary, network)); err != nil {
		t.Errorf("not healthy: %v %s", err, out)
	}

	client := applicationOf(t, app, volume)
	if out, err := container.Run(client.Command(t, container.NewNetwork(t))); err == nil || !strings.Contains(out, noDatabase) {
		t.Errorf("%q: %v %s", app.Command, err, out)
	}
	process.Stop()

	// With the default mode of the socket, the application may not connect.
	sidecar.Env = append([]string{"IAMPROXY_SOCKET_MODE=0660"}, sidecar.Env...) // the first one counts
	container.Start(t, sidecar.Command(t, network))
	if out, err := container.Run(client.Command(t, container.NewNetwork(t))); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("mode 0660: %v %s", err, out)
	}
}

// applicationOf returns the container of the application, with PostgreSQL's programs.
func applicationOf(t *testing.T, app *types.ContainerDefinition, volume string) container.Container {
	t.Helper()
	servers, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is valid
	if len(servers) == 0 {
		t.Fatal("there is no PostgreSQL of Debian's")
	}
	files := container.Tools()
	files["/etc/hosts"] = "/etc/hosts" // as engines do
	client := containerOf(t, app, volume, files)
	client.Env = append(client.Env, "PATH="+slices.Max(servers)+":/usr/bin")
	client.Args = app.Command
	return client
}

// mountVolume mounts a volume as Docker's local driver does, and returns its directory.
func mountVolume(t *testing.T, options map[string]string) string {
	t.Helper()
	return mount(t, options["device"], options["type"], 0, options["o"])
}

// mount mounts a file system until the test is over, and returns its directory.
func mount(t *testing.T, device, kind string, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount(device, dir, kind, flags, options); err != nil {
		t.Fatalf("mount %s: %v; it needs root", device, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// containerOf returns a container with the user, the variables and the mounts of a definition, and
// with further files.
func containerOf(t *testing.T, c *types.ContainerDefinition, volume string, files map[string]string) container.Container {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"dev", "etc", "proc", "tmp", "usr"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+name, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	mounts := maps.Clone(files)
	for _, point := range c.MountPoints {
		from := volume
		if aws.ToBool(point.ReadOnly) {
			from = mount(t, volume, "", syscall.MS_BIND, "")
			if err := syscall.Mount("", from, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}
		mounts[*point.ContainerPath] = from
	}
	return container.Container{
		Root:     root,
		Writable: !aws.ToBool(c.ReadonlyRootFilesystem),
		Mounts:   mounts,
		User:     cmp.Or(aws.ToString(c.User), "0:0"), // that of the image
		Dir:      "/",
		Env:      environment(c),
	}
}

// TestMigrateRuns runs the containers of the task that creates the second user. The volume belongs
// to root, as that of Fargate does.
func TestMigrateRuns(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0")
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	task := mustParse(t, "migrate-task-definition.json")
	volume := mount(t, "tmpfs", "tmpfs", 0, "mode=0755")

	definition := containerNamed(task, "sql")
	writer := containerOf(t, definition, volume, container.Tools())
	writer.Writable, writer.Args = true, definition.Command
	writer.Env = append(writer.Env, "PATH=/usr/bin")
	if out, err := container.Run(writer.Command(t, container.NewNetwork(t))); err != nil {
		t.Fatalf("%v %s", err, out)
	}

	definition = containerNamed(task, "grant")
	grant := containerOf(t, definition, volume, map[string]string{"/iamproxy": binary})
	grant.Args = slices.Concat([]string{"/iamproxy"}, definition.Command, []string{"--dry-run"})
	out, err := container.Run(grant.Command(t, container.NewNetwork(t)))
	for _, want := range []string{`CREATE ROLE "app_iam"`, `rds_iam`, "-- then /sql/init.sql"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %s: %v %s", want, err, out)
		}
	}
	written, err := os.ReadFile(filepath.Join(volume, "init.sql"))
	if want := variable(containerNamed(task, "sql"), "SQL"); err != nil || strings.TrimSpace(string(written)) != want {
		t.Errorf("%v: wrote %q, want %q", err, written, want)
	}
}

// TestGrantRuns runs grant with the command of its task definition.
func TestGrantRuns(t *testing.T) {
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	c := mustParse(t, "grant-task-definition.json").ContainerDefinitions[0]
	out, err := container.Run(container.NewNetwork(t).Command(environment(&c), binary, append(c.Command, "--dry-run")...))
	for _, want := range []string{`CREATE ROLE "app"`, `GRANT`, `rds_iam`, `TABLES`} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("no %s: %v %s", want, err, out)
		}
	}
}
