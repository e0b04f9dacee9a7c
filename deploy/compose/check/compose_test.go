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
)

const file = "../compose.yaml"

// load reads a file as strictly as Docker does.
func load(t *testing.T, file string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file})
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

// A word that is misspelt is found, and so is a service or a volume.
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
			t.Errorf("%q is taken", change[1])
		}
	}
}

// Each service waits until what it needs is well, which that then has to tell.
func TestOrder(t *testing.T) {
	project := mustLoad(t)
	for name, needs := range map[string]string{"iamproxy": "standin", "app": "iamproxy"} {
		if need := project.Services[name].DependsOn[needs]; need.Condition != types.ServiceConditionHealthy || !need.Restart {
			t.Errorf("%s depends on %s: %+v", name, needs, need)
		}
		if check := project.Services[needs].HealthCheck; check == nil || check.Disable || len(check.Test) == 0 {
			t.Errorf("%s: health check %+v", needs, check)
		}
	}
}

// iamproxy is as confined as its image allows, and may take the time it needs to end.
func TestConfined(t *testing.T) {
	service := mustLoad(t).Services["iamproxy"]
	if !service.ReadOnly || len(service.CapDrop) != 1 || service.CapDrop[0] != "ALL" ||
		len(service.SecurityOpt) != 1 || service.SecurityOpt[0] != "no-new-privileges:true" {
		t.Errorf("read-only %v, dropped %v, security %v", service.ReadOnly, service.CapDrop, service.SecurityOpt)
	}
	if len(service.Ports) != 0 {
		t.Errorf("ports %v lead to a listener on loopback", service.Ports)
	}
	if _, ok := service.Environment["IAMPROXY_DRAIN_MAX"]; ok {
		t.Error("sessions do not go on for the default any more: compare with that")
	}
	const drainMax = 25 * time.Second // the default of --drain-max
	if grace := service.StopGracePeriod; grace == nil || time.Duration(*grace) <= drainMax {
		t.Errorf("killed after %v, although sessions may go on for %v", grace, drainMax)
	}
}
