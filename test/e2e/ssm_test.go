//go:build unix

package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

const (
	// otherInstance is another node of the pages.
	otherInstance = "i-0fedcba9876543210"
	viaInstance   = "ssm://" + instance
	// ssmCaller owns the key of these tests.
	ssmCaller = "arn:aws:iam::" + account + ":user/jane"
)

// sessionManager is an AWS with the nodes of the pages, from which every database is the cluster.
type sessionManager struct {
	cluster *aurora.Cluster
	aws     *fakeaws.AWS
	gateway *fakessm.Gateway
	// variables lead to the AWS. env has them, the key, and no program on the PATH.
	variables, env []string
}

// startSessionManager starts it. The fields of gateway that are not set are set.
func startSessionManager(t testing.TB, cluster *aurora.Cluster, gateway *fakessm.Gateway) *sessionManager {
	t.Helper()
	s := &sessionManager{cluster: cluster, gateway: gateway, aws: &fakeaws.AWS{Issued: noteKey, Gateway: gateway}}
	gateway.Issued = func(secret string) { noteSecret("a secret of a session", secret) }
	gateway.Authorize = s.aws.AuthorizeOpenDataChannel
	routes := map[string]string{aurora.DefaultHost: cluster.Addr()}
	gateway.Agent.Routes = routes
	for name, agent := range gateway.Agents {
		if agent.Routes == nil {
			agent.Routes = routes
			gateway.Agents[name] = agent
		}
	}
	s.aws.AddKey(aurora.DefaultKey, ssmCaller)
	s.aws.Allow(ssmCaller, "ssm:*", "ssmmessages:OpenDataChannel")
	s.aws.AddNode(fakeaws.Node{ID: instance})
	s.aws.AddNode(fakeaws.Node{ID: otherInstance})
	for _, server := range []interface {
		Start() error
		Close() error
	}{gateway, s.aws} {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	s.variables = []string{"AWS_ENDPOINT_URL_STS=" + s.aws.URL() + "/sts", "AWS_ENDPOINT_URL_SSM=" + s.aws.URL() + "/ssm"}
	s.env = slices.Concat(keyEnvironment(aurora.DefaultKey), []string{"PATH=/nonexistent"}, s.variables)
	return s
}

// proxyArgs returns arguments for a proxy that reaches the database through the node instance.
func (s *sessionManager) proxyArgs(more ...string) []string {
	return append([]string{aurora.DefaultHost, "--via=" + viaInstance, "--listen=127.0.0.1:0", "--ca-file=" + s.cluster.CAFile(), "--admin=127.0.0.1:0", "--log-level=debug"}, more...)
}

// command returns a command of the binary, which also has the database's certificates.
func (s *sessionManager) command(t testing.TB, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), binaryPath(t), append(args, "--ca-file="+s.cluster.CAFile())...)
	cmd.Env = append(slices.Clone(s.env), "PGPASSWORD="+adminPassword)
	return cmd
}

// awaitEnd waits until all sessions have ended.
func (s *sessionManager) awaitEnd(t testing.TB) {
	t.Helper()
	until(t, "the sessions to end", func() bool {
		counts := s.gateway.Counts()
		return counts.OpenSessions == 0 && counts.OpenSockets == 0 && counts.OpenStreams == 0
	})
}

// The tests with Session Manager share a database.
func TestSessionManager(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *aurora.Cluster)
	}{
		{"targets", testSSMTargets},
		{"commands", testSSMCommands},
		{"words", testSSMWords},
		{"many sessions", testSSMLoad},
		{"cuts", testSSMCuts},
		{"unreliable gateway", testSSMUnreliable},
		{"HTTP proxy", testSSMThroughHTTPProxy},
		{"idle", testSSMIdle},
		{"not resumed", testSSMNotResumed},
		{"terminated", testSSMTerminated},
		{"leaves nothing behind", testSSMLeavesNothing},
		{"frozen", testSSMFrozen},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, cluster)
		})
	}
}

// One process reaches the database through each kind of target. Each endpoint has one session,
// which sessions of clients and cancel requests share, and which the page and the metrics show.
func testSSMTargets(t *testing.T, cluster *aurora.Cluster) {
	const (
		server    = "mi-0123456789abcdef0"
		container = "ecs:main_0123456789abcdef0123456789abcdef_0123456789abcdef0123456789abcdef-1234567890"
	)
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	s.aws.AddNode(fakeaws.Node{ID: server})
	s.aws.AddNode(fakeaws.Node{ID: container})
	s.aws.AddNode(fakeaws.Node{ID: otherInstance, Tags: map[string]string{"Name": "bastion"}})
	s.aws.AddNode(fakeaws.Node{ID: "i-0000000000000000f", Tags: map[string]string{"Name": "bastion"}, Ping: "ConnectionLost"})
	targets := []string{instance, server, container, "tag:Name=bastion"}
	args := s.proxyArgs()
	for _, target := range targets[1:] {
		args = slices.Insert(args, 1, aurora.DefaultHost+"?listen=127.0.0.1:0&via=ssm://"+target)
	}
	p := startProxy(t, s.env, args...)
	for _, address := range p.listens {
		if out, err := psqlAt(t, conninfoAt(address), isTLS); err != nil || out != "t" {
			t.Errorf("%v: %s", err, out)
		}
	}
	testCancel(t, cluster, p)
	if started := s.gateway.Counts().Started; started != len(targets) {
		t.Errorf("%d sessions", started)
	}
	if status, body := p.get("/readyz?upstream"); status != 200 {
		t.Errorf("readyz says %d: %s", status, body)
	}
	_, page := p.get("/")
	for _, want := range []string{instance, server, container, "ssm://tag:Name=bastion", otherInstance, "open since", fakessm.DefaultVersion} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q on the status page", want)
		}
	}
	metrics := p.metrics()
	for _, name := range []string{`iamproxy_ssm_session_state{state="open"}`, "iamproxy_ssm_sessions_total", "iamproxy_ssm_round_trip_seconds", "iamproxy_ssm_session_start_timestamp_seconds"} {
		if metrics[name] == 0 {
			t.Errorf("no %s in the metrics", name)
		}
	}
	p.end(t, s, syscall.SIGTERM)
}

// conninfoAt returns a connection string for an endpoint.
func conninfoAt(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	return "host=" + host + " port=" + port + " user=" + aurora.IAMUser + " dbname=" + aurora.Database
}

// check and grant open a session of their own, and end it.
func testSSMCommands(t *testing.T, cluster *aurora.Cluster) {
	s := startSessionManager(t, cluster, &fakessm.Gateway{})
	cmd := s.command(t, "grant", aurora.DefaultHost, "--user=app_ssm", "--via="+viaInstance)
	if out, err := combinedOutput(t, cmd); err != nil || !strings.HasPrefix(string(out), "created role \"app_ssm\"\ngranted rds_iam to \"app_ssm\"\n") {
		t.Errorf("grant: %v: %s", err, out)
	}
	cmd = s.command(t, "check", aurora.DefaultHost, "--user=app_ssm", "--via="+viaInstance, "--json")
	out, err := combinedOutput(t, cmd)
	var report check.Report
	if err != nil || json.Unmarshal(out, &report) != nil || !report.OK {
		t.Fatalf("check: %v: %s", err, out)
	}
	i := slices.IndexFunc(report.Steps, func(step check.Step) bool { return step.Name == check.Session })
	if i < 0 {
		t.Fatalf("no step %s: %s", check.Session, out)
	}
	if step := report.Steps[i]; step.State != check.OK || step.Found != "open on "+instance+", SSM Agent "+fakessm.DefaultVersion {
		t.Errorf("%+v", step)
	}
	if names := [2]string{report.Steps[i-1].Name, report.Steps[i+1].Name}; names != [2]string{check.DNS, check.TCP} {
		t.Errorf("the session is between %v", names)
	}
	s.awaitEnd(t)
	if counts := s.gateway.Counts(); counts.Started != 2 || counts.Terminated != 2 {
		t.Errorf("%+v", counts)
	}
}

// longOr returns long if $SSM_LONG is set, for a run that may take minutes.
func longOr[T any](long, short T) T {
	if os.Getenv("SSM_LONG") != "" {
		return long
	}
	return short
}

// Only the command token needs no session.
func TestTokenStartsNoSession(t *testing.T) {
	t.Parallel()
	s := startSessionManager(t, &aurora.Cluster{}, &fakessm.Gateway{})
	cmd := exec.CommandContext(t.Context(), binaryPath(t), "token", aurora.DefaultHost+"?via="+viaInstance, "--user=u")
	cmd.Env = s.env
	if token := tokenOf(t, cmd); !strings.HasPrefix(token, aurora.DefaultHost) {
		t.Errorf("%.40s", token)
	}
	if n := s.aws.Requests(fakeaws.SSM); n != 0 {
		t.Errorf("%d requests", n)
	}
}
