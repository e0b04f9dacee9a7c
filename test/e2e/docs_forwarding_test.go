//go:build unix

package e2e

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// Each command of docs/forwarding.md leads to a session.
func TestForwardingPage(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	for _, test := range []struct{ name, block string }{
		{"Session Manager", "--profile dev --via ssm://"},
		{"the AWS CLI", "exec:aws"},
		{"SSH", "ServerAliveInterval"},
		{"SSH through an EC2 Instance Connect Endpoint", "ProxyCommand"},
		{"kubectl", "exec:kubectl"},
		{"SOCKS", "socks5://localhost:1080"},
		{"a forward that is running", "--via localhost:15432"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newLaptopShell(t, cluster, "forwarding.md")
			f := startForwarders(t, cluster, instance+" eu-west-1 dev")
			socks := startSOCKS(t, &socksServer{target: cluster.Addr()})
			path := d.path()
			d.env = append(append(d.env, f.own...), "PATH="+f.dir+":"+path, "IAMPROXY_VIA=", "AWS_PROFILE=dev")
			d.env = append(d.env, startSessionManager(t, cluster, &fakessm.Gateway{}).variables...)
			start := strings.NewReplacer("localhost:1080", socks.address(), "localhost:15432", cluster.Addr()).Replace(d.block(test.block))
			out := d.run(strings.TrimSpace(start)+" 2>iamproxy.log &", "iamproxy wait",
				"psql \"host=localhost user=app dbname=mydb\" -Atc 'select current_user'", "iamproxy shutdown")
			if out != "app\n" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// The policy allows the session and the login.
func TestForwardingPagePolicy(t *testing.T) {
	t.Parallel()
	d := newLaptopShell(t, &aurora.Cluster{}, "forwarding.md")
	d.env = append(d.env, startPageAWS(t)...)
	out := d.run(d.block("iamproxy policy"))
	for _, action := range []string{"rds-db:connect", "ssm:StartSession", "ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"} {
		if !strings.Contains(out, `"`+action+`"`) || !strings.Contains(d.page, "`"+action+"`") && action != "rds-db:connect" {
			t.Errorf("no %s in the page or in %s", action, out)
		}
	}
}
