//go:build linux

package check

import (
	"net"
	"os/exec"
	"strings"

	core "k8s.io/api/core/v1"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// connects runs the containers of an injected pod: iamproxy, and psql with the variables of the
// application. They share the loopback address of this machine, as in a pod.
func (s server) connects() {
	cluster := &aurora.Cluster{}
	s.must(cluster.Start(s.Context()))
	s.Cleanup(func() { s.must(cluster.Close()) })
	s.namespace("database", enabled, endpoints)

	pod := application(s.T)
	pod.Spec.Containers[0].Env = []core.EnvVar{{Name: "PGUSER", Value: aurora.IAMUser}, {Name: "PGDATABASE", Value: aurora.Database}}
	annotated("environment", "enabled")(pod)
	for name, host := range map[string]string{"IAMPROXY_LISTEN": "127.0.0.1", "IAMPROXY_ADMIN": "0.0.0.0", "IAMPROXY_STATUS": "127.0.0.1"} {
		_, port, err := net.SplitHostPort(conntest.FreeAddress(s))
		s.must(err)
		annotated(name, net.JoinHostPort(host, port))(pod)
	}
	pod, err := s.CreatePod(s.Context(), "database", pod, false)
	s.must(err)

	container := pod.Spec.InitContainers[0]
	running := &sidecar.Sidecar{Binary: binary, Cluster: cluster, Env: assignments(container)}
	_, err = running.Start(s.Context())
	s.must(err)
	defer func() { s.must(running.Stop()) }()
	_, admin, err := net.SplitHostPort(variable(container, "IAMPROXY_ADMIN"))
	s.must(err)
	s.must(probes(s.Context(), container, admin))

	psql := exec.CommandContext(s.Context(), "psql", "-At", "-c", "SELECT session_user")
	psql.Env = append(assignments(pod.Spec.Containers[0]), "PATH=/usr/bin:/bin", "HOME="+s.TempDir())
	if output, err := psql.CombinedOutput(); err != nil || strings.TrimSpace(string(output)) != aurora.IAMUser {
		s.Errorf("psql with %q: %v: %s", assignments(pod.Spec.Containers[0]), err, output)
	}
}

// assignments returns the variables of a container, as a process gets them.
func assignments(c core.Container) (env []string) {
	for _, v := range c.Env {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}
