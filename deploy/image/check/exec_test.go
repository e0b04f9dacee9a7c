//go:build linux

package check

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// The image of deploy/exec runs its task as process 1, without capabilities. A failed task has the
// exit code of the command.
func TestExecImage(t *testing.T) {
	images := container.NewImages(t)
	images.Build(filepath.Join(repository, "Dockerfile"), repository, "VERSION="+version, "COMMIT="+commit)
	images.Tag(reference)
	directory := filepath.Join(repository, "deploy/exec")
	image := images.Build(filepath.Join(directory, "Dockerfile"), directory)
	cluster := &aurora.Cluster{}
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	network := container.NewNetwork(t)
	task := image.Container()
	task.Mounts = container.Tools()
	task.Mounts["/ca.pem"] = cluster.CAFile()
	task.Env = append(task.Env, append(container.Credentials(), "IAMPROXY_ENDPOINTS="+endpoint, "IAMPROXY_VIA="+network.Relay(t, cluster.Addr()),
		"IAMPROXY_USER="+aurora.IAMUser, "IAMPROXY_DATABASE="+aurora.Database, "IAMPROXY_CA_FILE=/ca.pem")...)
	for name, test := range map[string]struct {
		writable bool
		env      string
		args     []string
		fails    bool
		want     string
	}{
		"socket":    {writable: true, want: aurora.IAMUser},
		"read-only": {env: "IAMPROXY_LISTEN=127.0.0.1:0", want: aurora.IAMUser},
		"fails":     {writable: true, args: []string{"-c", "select 1/0"}, fails: true, want: "division by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			run := task
			run.Writable = test.writable
			run.Args = append(run.Args[:len(run.Args):len(run.Args)], test.args...)
			if test.env != "" {
				run.Env = append(run.Env[:len(run.Env):len(run.Env)], test.env)
			}
			out, err := container.Run(run.Command(t, network))
			if (err != nil) != test.fails || !strings.Contains(out, test.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
