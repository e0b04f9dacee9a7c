package e2e

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// A machine that gets another address keeps its sessions.
func TestSSMAddressChanges(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	network := newNetwork(t)
	listener, err := net.Listen("tcp", network.here+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := startSessionManager(t, cluster, &fakessm.Gateway{Listener: listener})
	api := "http://" + network.forward(t, strings.TrimPrefix(s.aws.URL(), "http://"))
	dir := t.TempDir()
	cmd := network.command(binaryPath(t), aurora.DefaultHost, "--listen=unix:"+dir, "--via="+viaInstance, "--ca-file="+cluster.CAFile(), "--admin=off")
	cmd.Env = append(slices.Clone(s.env), "AWS_ENDPOINT_URL_STS="+api+"/sts", "AWS_ENDPOINT_URL_SSM="+api+"/ssm")
	p := startCommand(t, cmd, 1)
	conn := mustConnect(t, "host="+dir+" user="+aurora.IAMUser+" dbname="+aurora.Database)
	for i, subnet := range []string{"198.19.0.", "198.19.1."} {
		network.move(t, subnet)
		mustExec(t, conn, "select 1")
		if counts := s.gateway.Counts(); counts.Resumed <= i || counts.Started != 1 {
			t.Errorf("%+v", counts)
		}
	}
	t.Logf("resumed after %v s", longestOutage(p.logs()))
}

// move gives the other host another address, from which it reaches this one.
func (n *network) move(t *testing.T, subnet string) {
	t.Helper()
	near, far := n.cable()
	mustRun(t, exec.Command("ip", "address", "add", subnet+"1/30", "dev", near))
	mustRun(t, n.command("ip", "address", "flush", "dev", far))
	mustRun(t, n.command("ip", "address", "add", subnet+"2/30", "dev", far))
	mustRun(t, n.command("ip", "route", "add", n.here, "dev", far))
}
