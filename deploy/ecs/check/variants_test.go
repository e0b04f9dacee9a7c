//go:build linux

package check

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// variant is a form of the task, with the settings of the templates that produce it.
type variant struct {
	file           string // of deploy/ecs
	section        string // of docs/ecs-options.md, with JSON to apply to the file
	terraform      map[string]any
	cloudFormation map[string]string
}

const router = "public.ecr.aws/aws-observability/aws-for-fluent-bit:stable"

var variants = map[string]variant{
	"default": {file: "task-definition.json"},
	"memory": {
		file: "task-definition.json", section: "Memory",
		terraform:      map[string]any{"options": map[string]any{"memory_reservation": 128}},
		cloudFormation: map[string]string{"MemoryReservation": "128"},
	},
	"open files": {
		file: "task-definition.json", section: "Open files",
		terraform:      map[string]any{"options": map[string]any{"nofile": 65536}},
		cloudFormation: map[string]string{"Nofile": "65536"},
	},
	"ARM64": {
		file: "task-definition.json", section: "Graviton (ARM64)",
		terraform:      map[string]any{"cpu_architecture": "ARM64"},
		cloudFormation: map[string]string{"CpuArchitecture": "ARM64"},
	},
	"fast start": {
		file: "task-definition.json", section: "Faster start, and fewer health checks",
		terraform:      map[string]any{"options": map[string]any{"fast_start": true}},
		cloudFormation: map[string]string{"FastStart": "true"},
	},
	"FireLens": {
		file: "task-definition-firelens.json", section: "FireLens",
		terraform:      map[string]any{"options": map[string]any{"firelens": map[string]any{}, "log_router_image": router}},
		cloudFormation: map[string]string{"LogRouterImage": router},
	},
	"bridge": {
		file:           "task-definition-bridge.json",
		terraform:      map[string]any{"network_mode": "bridge"},
		cloudFormation: map[string]string{"NetworkMode": "bridge"},
	},
}

// task returns the task definition of a variant: the file, with the JSON of its section.
func (v variant) task(t *testing.T) *ecs.RegisterTaskDefinitionInput {
	t.Helper()
	var task map[string]any
	decode(t, string(read(t, v.file)), &task)
	if v.section != "" {
		for _, block := range sectionBlocks(t, v.section) {
			apply(t, task, block)
		}
	}
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseTask(text)
	if err == nil {
		err = checks[v.file](text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// sectionBlocks returns the JSON blocks below a heading of docs/ecs-options.md.
func sectionBlocks(t *testing.T, heading string) (found []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/ecs-options.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range blocks.FindAllStringSubmatch(section, -1) {
		if block[1] == "json" {
			found = append(found, block[2])
		}
	}
	if !ok || len(found) == 0 {
		t.Fatalf("docs/ecs-options.md has no JSON in %s", heading)
	}
	return found
}

// apply adds a block to a task: a container, or fields of the task, of the application or of iamproxy.
func apply(t *testing.T, task map[string]any, block string) {
	t.Helper()
	block = strings.TrimSpace(block)
	if !strings.HasPrefix(block, "{") {
		block = "{" + block + "}"
	}
	var fields map[string]any
	decode(t, block, &fields)
	containers := task["containerDefinitions"].([]any)
	if _, ok := fields["name"]; ok {
		task["containerDefinitions"] = append(containers, fields)
		return
	}
	target, name := task, "iamproxy"
	if _, ok := fields["runtimePlatform"]; !ok {
		if _, ok := fields["dependsOn"]; ok {
			name = "app"
		}
		i := slices.IndexFunc(containers, func(c any) bool { return c.(map[string]any)["name"] == name })
		target = containers[i].(map[string]any)
	}
	maps.Copy(target, fields)
}

// compare compares a task of a template with that of a file. The application may differ, but for
// what connects it with iamproxy, and the names of the roles.
func compare(t *testing.T, got, want *ecs.RegisterTaskDefinitionInput) {
	t.Helper()
	gotParts, wantParts := parts(t, got), parts(t, want)
	if a, b := slices.Sorted(maps.Keys(gotParts)), slices.Sorted(maps.Keys(wantParts)); !slices.Equal(a, b) {
		t.Errorf("it has %q, want %q", a, b)
	}
	for name, part := range wantParts {
		if !reflect.DeepEqual(gotParts[name], part) {
			t.Errorf("%s: %s\nwant %s", name, text(gotParts[name]), text(part))
		}
	}
}

// parts returns the fields and the containers of a task by name, as ECS receives them.
func parts(t *testing.T, task *ecs.RegisterTaskDefinitionInput) map[string]any {
	t.Helper()
	sent, err := whatIsSent(task)
	if err != nil {
		t.Fatal(err)
	}
	var found map[string]any
	decode(t, string(sent), &found)
	for _, c := range found["containerDefinitions"].([]any) {
		fields := c.(map[string]any)
		name := fields["name"].(string)
		if name == "app" {
			fields = map[string]any{"dependsOn": fields["dependsOn"], "mountPoints": fields["mountPoints"], "logConfiguration": fields["logConfiguration"]}
		}
		found["container "+name] = fields
	}
	delete(found, "containerDefinitions")
	for _, name := range []string{"family", "taskRoleArn", "executionRoleArn"} {
		found[name] = found[name] != nil
	}
	return found
}

func text(v any) string {
	out, _ := json.Marshal(v) //nolint:errchkjson // for a message
	return string(out)
}

// TestVariantsRun runs iamproxy as each variant defines it, and logs in with the variables of its
// application. With a faster start, the application comes after the container iamproxy-ready.
func TestVariantsRun(t *testing.T) {
	s := newStandIn(t)
	for name, v := range variants {
		t.Run(name, func(t *testing.T) { s.run(t, v.task(t)) })
	}
}

// standIn runs tasks with a stand-in for Aurora.
type standIn struct {
	binary, ca string
	cluster    *aurora.Cluster
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0") // the container has no library of C
	s := &standIn{binary: container.Build(t, "../../..", "./cmd/iamproxy"), ca: filepath.Join(t.TempDir(), "ca.pem"), cluster: &aurora.Cluster{}}
	if err := s.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cluster.Close() })
	ca, err := os.ReadFile(s.cluster.CAFile())
	err = errors.Join(err, os.WriteFile(s.ca, ca, 0o644), os.Chmod(filepath.Dir(s.ca), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := s.cluster.Admin(t.Context(), aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	if _, err := admin.Exec(t.Context(), "CREATE ROLE app LOGIN IN ROLE "+aurora.RDSRole); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs the containers of a task in the order of ECS, and logs in as the application does.
func (s *standIn) run(t *testing.T, task *ecs.RegisterTaskDefinitionInput) {
	t.Helper()
	network, volume := container.NewNetwork(t), t.TempDir()
	clients := network
	if task.NetworkMode == types.NetworkModeBridge {
		clients, volume = container.NewNetwork(t), mountVolume(t, task.Volumes[0].DockerVolumeConfiguration.DriverOpts)
	}
	command := func(c *types.ContainerDefinition, variables ...string) *exec.Cmd {
		definition := containerOf(t, c, volume, map[string]string{"/iamproxy": s.binary, "/ca.pem": s.ca})
		definition.Args = append([]string{"/iamproxy"}, c.Command...)
		definition.Env = append(definition.Env, variables...)
		return definition.Command(t, network)
	}
	c := containerNamed(task, "iamproxy")
	process := container.Start(t, command(c, "IAMPROXY_VIA="+network.Relay(t, s.cluster.Addr()), "IAMPROXY_CA_FILE=/ca.pem"))
	if ready := containerNamed(task, "iamproxy-ready"); ready != nil {
		if out, err := container.Run(command(ready)); err != nil {
			t.Errorf("iamproxy-ready: %v %s", err, out)
		}
	}
	if out, err := container.Run(healthCheck(c, s.binary, network)); err != nil {
		t.Errorf("not healthy: %v %s", err, out)
	}

	client := applicationOf(t, containerNamed(task, "app"), volume)
	client.Args = []string{"sh", "-c", "psql $DATABASE_URL -XAtc 'select session_user'"}
	if out, err := container.Run(client.Command(t, clients)); err != nil || out != "app" {
		t.Errorf("the application: %v %q", err, out)
	}
	process.Stop()
	for line := range strings.Lines(process.Log()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("the log router cannot parse %s", line)
		}
	}
}
