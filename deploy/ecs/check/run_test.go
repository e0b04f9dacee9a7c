//go:build linux

package check

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/container"
)

// environment is the container's, and what a task role is there.
func environment(c *types.ContainerDefinition) []string {
	env := container.Credentials()
	for _, variable := range c.Environment {
		env = append(env, *variable.Name+"="+*variable.Value)
	}
	return env
}

// healthCheck is the container's, in its network.
func healthCheck(c *types.ContainerDefinition, binary string, n container.Network) *exec.Cmd {
	command := slices.Clone(c.HealthCheck.Command[1:])
	if command[0] == "/iamproxy" {
		command[0] = binary
	}
	return n.Command(environment(c), command[0], command[1:]...)
}

// The program takes exactly what the task definition gives it, is healthy in its
// words, and ends as ECS ends it.
func TestSidecarRuns(t *testing.T) {
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	task := mustParse(t, "task-definition.json")
	c := containerNamed(task, "iamproxy")
	network := container.NewNetwork(t)
	if out, err := container.Run(healthCheck(c, binary, network)); err == nil {
		t.Errorf("healthy before it runs: %s", out)
	}
	process := container.Start(t, network.Command(environment(c), binary, c.Command...))
	if out, err := container.Run(healthCheck(c, binary, network)); err != nil {
		t.Errorf("not healthy: %v %s", err, out)
	}
	if want := *c.Environment[0].Value; !strings.Contains(process.Log(), want) {
		t.Errorf("not for %s: %s", want, process.Log())
	}
	// The application finds iamproxy, which here finds no database.
	app := containerNamed(task, "app")
	command := network.Command(append(environment(app), "PATH="+os.Getenv("PATH")), app.Command[0], app.Command[1:]...)
	if out, err := container.Run(command); err == nil || !strings.Contains(out, "FATAL:  iamproxy: could not resolve host name") {
		t.Errorf("the application: %v %s", err, out)
	}
	process.Stop()

	// A variable that is mistyped does not go unnoticed.
	mistyped := append(environment(c), "IAMPROXY_LISEN=127.0.0.1:5433")
	out, err := container.Run(network.Command(mistyped, binary, c.Command...))
	if err == nil || !strings.Contains(out, "IAMPROXY_LISEN") {
		t.Errorf("mistyped: %v %s", err, out)
	}
}

// grant takes the command of its task definition.
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
