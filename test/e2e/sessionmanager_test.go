//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// startSessionManager starts a fake Session Manager with the targets of the pages, from which every
// database is the cluster. It returns the variables that lead there, for the key of the cluster.
func startSessionManager(t *testing.T, cluster *aurora.Cluster) (variables []string) {
	t.Helper()
	gateway := &fakessm.Gateway{
		Agent:  fakessm.Agent{Routes: map[string]string{aurora.DefaultHost: cluster.Addr()}},
		Issued: func(secret string) { noteSecret("a secret of a Session Manager session", secret) },
	}
	aws := &fakeaws.AWS{Gateway: gateway, Issued: noteKey}
	gateway.Authorize = aws.AuthorizeOpenDataChannel
	aws.AddKey(aurora.DefaultKey, "arn:aws:iam::111122223333:user/dev")
	aws.Allow(fakeaws.Everyone, "ssm:*", "ssmmessages:OpenDataChannel")
	aws.AddNode(fakeaws.Node{ID: instance, Tags: map[string]string{"Name": "bastion"}})
	aws.AddNode(fakeaws.Node{ID: "i-0fedcba9876543210"})
	for _, server := range []interface {
		Start() error
		Close() error
	}{gateway, aws} {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
	}
	return []string{"AWS_ENDPOINT_URL_SSM=" + aws.URL() + "/ssm"}
}

// The status page and the metrics show the session.
func TestSessionManagerStatus(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	env := append(keyEnvironment(aurora.DefaultKey), startSessionManager(t, cluster)...)
	p := startProxy(t, env, forwardArgs(cluster, "ssm://tag:Name=bastion")...)
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	_, metrics := p.get("/metrics")
	for _, want := range []string{`state="open"} 1`, `iamproxy_ssm_sessions_total{`, `iamproxy_ssm_round_trip_seconds{`, `iamproxy_ssm_session_start_timestamp_seconds{`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	_, page := p.get("/")
	for _, want := range []string{"ssm://tag:Name=bastion", instance, "open since", "3.3.0.0"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the page", want)
		}
	}
}
