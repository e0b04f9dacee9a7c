//go:build linux

package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/iamproxy/iamproxy/test/container"
)

const file = "../compose.yaml"

// reference is the image in the README, as on all pages.
const reference = "ghcr.io/iamproxy/iamproxy:v1.2.3"

// load reads a file as strictly as Docker does.
func load(t *testing.T, file string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(container.Credentials()), cli.WithName("iamproxy"))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func mustLoad(t *testing.T) *types.Project {
	t.Helper()
	project, err := load(t, file)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// mustLoadReadme loads the project in the README.
func mustLoadReadme(t *testing.T) *types.Project {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("the README has no project")
	}
	copied := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	project, err := load(t, copied)
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// A misspelled key, service or volume is an error.
func TestMisspelt(t *testing.T) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"    environment:", "    environments:"},
		{"condition: service_healthy", "condition: service_helthy"},
		{"service:iamproxy", "service:iamprox"},
		{"      standin: {", "      standing: {"},
		{"- ca:/ca:ro", "- cas:/ca:ro"},
	} {
		changed := strings.ReplaceAll(string(text), change[0], change[1])
		if changed == string(text) {
			t.Errorf("there is no %q", change[0])
		}
		copied := filepath.Join(t.TempDir(), "compose.yaml")
		if err := os.WriteFile(copied, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, copied); err == nil {
			t.Errorf("%q is accepted", change[1])
		}
	}
}

// Each service starts when the services that it needs are healthy.
func TestOrder(t *testing.T) {
	project, own := mustLoad(t), mustLoadReadme(t)
	for name, needs := range map[string]string{"iamproxy": "standin", "app": "iamproxy"} {
		checkNeeds(t, project.Services[name], needs)
		if check := project.Services[needs].HealthCheck; check == nil || check.Disable || len(check.Test) == 0 {
			t.Errorf("%s: health check %+v", needs, check)
		}
	}
	checkNeeds(t, own.Services["app"], "iamproxy") // whose image has a health check
	if mode := own.Services["app"].NetworkMode; mode != project.Services["app"].NetworkMode {
		t.Errorf("the README's application has the network %s", mode)
	}
}

func checkNeeds(t *testing.T, service types.ServiceConfig, needs string) {
	t.Helper()
	if need := service.DependsOn[needs]; need.Condition != types.ServiceConditionHealthy || !need.Restart {
		t.Errorf("%s depends on %s: %+v", service.Name, needs, need)
	}
}

// iamproxy is confined as far as its image allows, and has enough time to stop.
func TestConfined(t *testing.T) {
	for name, project := range map[string]*types.Project{"compose.yaml": mustLoad(t), "README.md": mustLoadReadme(t)} {
		service := project.Services["iamproxy"]
		if !service.ReadOnly || len(service.CapDrop) != 1 || service.CapDrop[0] != "ALL" ||
			len(service.SecurityOpt) != 1 || service.SecurityOpt[0] != "no-new-privileges:true" {
			t.Errorf("%s: read-only %v, dropped %v, security %v", name, service.ReadOnly, service.CapDrop, service.SecurityOpt)
		}
		if len(service.Ports) != 0 {
			t.Errorf("%s: publishes %v, but the listener is on loopback", name, service.Ports)
		}
		if _, ok := service.Environment["IAMPROXY_DRAIN_MAX"]; ok {
			t.Errorf("%s: sets IAMPROXY_DRAIN_MAX: compare the grace period with that", name)
		}
		const drainMax = 25 * time.Second // the default of --drain-max
		if grace := service.StopGracePeriod; grace == nil || time.Duration(*grace) <= drainMax {
			t.Errorf("%s: killed after %v, but sessions may continue for %v", name, grace, drainMax)
		}
	}
}
