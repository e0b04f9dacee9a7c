//go:build linux

package check

import (
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/container"
)

func TestMain(m *testing.M) {
	os.Exit(container.Main(m)) //nolint:forbidigo // TestMain exits
}

const (
	version  = "v1.2.3"
	commit   = "0123456789abcdef0123456789abcdef01234567"
	endpoint = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
)

// TestImage builds the repository's Dockerfile with the arguments of `make image`, and runs the
// image without capabilities and with a read-only file system.
func TestImage(t *testing.T) {
	images := container.NewImages(t)
	build := func(args ...string) container.Image {
		return images.Build(filepath.Join(repository, "Dockerfile"), repository, append(args, "VERSION="+version, "COMMIT="+commit)...)
	}
	image := build()
	t.Run("config", func(t *testing.T) { checkConfig(t, image.Config) })
	t.Run("files", func(t *testing.T) { checkFiles(t, image.Root) })
	t.Run("version", func(t *testing.T) {
		out, err := container.Run(image.Container("version").Command(t, container.NewNetwork(t)))
		if err != nil || !strings.HasPrefix(out, "iamproxy "+version+" (commit "+commit+", go") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("run", func(t *testing.T) { checkRun(t, image) })
	t.Run("docker run", func(t *testing.T) { checkDockerRun(t, image) })
	t.Run("other platform", func(t *testing.T) {
		// What BuildKit sets for --platform linux/arm64.
		if machine := machineOf(t, build("TARGETOS=linux", "TARGETARCH=arm64").Root); machine != elf.EM_AARCH64 {
			t.Errorf("built for %v", machine)
		}
	})
}

func checkConfig(t *testing.T, config container.Config) {
	// A number, since Kubernetes cannot verify runAsNonRoot for a user name.
	uid, _, _ := strings.Cut(config.User, ":")
	if n, err := strconv.Atoi(uid); err != nil || n == 0 {
		t.Errorf("user %q is not the number of an ordinary user", config.User)
	}
	if !slices.Equal(config.Entrypoint, []string{"/iamproxy"}) || len(config.Cmd) != 0 {
		t.Errorf("entrypoint %q, command %q", config.Entrypoint, config.Cmd)
	}
	if len(config.ExposedPorts) != 0 {
		t.Errorf("exposes %v, but listens on loopback", config.ExposedPorts)
	}
	for label, want := range map[string]string{
		"title": "iamproxy", "version": version, "revision": commit, "licenses": "Apache-2.0",
	} {
		if got := config.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("label %s: %q", label, got)
		}
	}
	health := config.Healthcheck
	if len(health.Test) < 2 || health.Test[0] != "CMD" { // CMD-SHELL: there is no shell
		t.Fatalf("health check %q", health.Test)
	}
	if health.Interval <= 0 || health.Timeout <= 0 || health.StartPeriod <= 0 {
		t.Errorf("health check: %+v", health)
	}
}

// checkFiles fails if the image lacks the program or its licenses, or has more files than its base.
func checkFiles(t *testing.T, root string) {
	for name, want := range map[string]fs.FileMode{"iamproxy": 0o755, "LICENSE": 0o644, "LICENSES": 0o644} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains([]string{"LICENSE", "LICENSES", "iamproxy", "dev", "etc", "home", "proc", "tmp"}, entry.Name()) {
			t.Errorf("the image has %s", entry.Name())
		}
	}
}

// checkRun runs the program as process 1 with only the image's files. The image's health check
// has to succeed while it serves.
func checkRun(t *testing.T, image container.Image) {
	network := container.NewNetwork(t)
	health := image.Container()
	health.Args = image.Healthcheck.Test[1:]
	if out, err := container.Run(health.Command(t, network)); err == nil || !strings.Contains(out, "iamproxy: ") {
		t.Errorf("healthy, although nothing runs: %v %s", err, out)
	}
	served := image.Container()
	served.Env = append(served.Env, append(container.Credentials(), "IAMPROXY_ENDPOINTS="+endpoint)...)
	process := container.Start(t, served.Command(t, network))
	checkConfined(t, process.PID())
	if out, err := container.Run(health.Command(t, network)); err != nil {
		t.Errorf("not healthy, although it serves: %v %s", err, out)
	}
	process.Stop()
	if out, err := container.Run(health.Command(t, network)); err == nil {
		t.Errorf("healthy, although it has exited: %s", out)
	}

	// It listens, but has no credentials.
	served.Env = append(image.Container().Env, "AWS_EC2_METADATA_DISABLED=true", "IAMPROXY_ENDPOINTS="+endpoint)
	process = container.Start(t, served.Command(t, network))
	if out, err := container.Run(health.Command(t, network)); err == nil || !strings.Contains(out, "credentials") {
		t.Errorf("healthy, although it cannot sign: %v %s", err, out)
	}
	process.Stop()
}

// checkConfined fails unless the container has no capabilities and a read-only file system.
func checkConfined(t *testing.T, pid int) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Name:\tiamproxy\n", "Uid:\t65532\t65532\t65532\t65532\n", "Gid:\t65532\t65532\t65532\t65532\n", "Groups:\t \n",
		"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "NoNewPrivs:\t1\n",
		"NSpid:\t" + strconv.Itoa(pid) + "\t1\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("not %q in:\n%s", want, status)
		}
	}
	for _, dir := range []string{"/", "/tmp", "/home/nonroot"} {
		if err := os.WriteFile(filepath.Join(proc, "root", dir, "new"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
			t.Errorf("writing to %s: %v", dir, err)
		}
	}
}

func machineOf(t *testing.T, root string) elf.Machine {
	file, err := elf.Open(filepath.Join(root, "iamproxy"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return file.Machine
}
