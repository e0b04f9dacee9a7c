//go:build unix

package e2e

import (
	"cmp"
	"encoding/json"
	"html"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/check"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// ssmFailure is a failure as its user sees it.
type ssmFailure struct {
	via           string // after ssm://; zero: instance
	reason        pgwire.Reason
	message, hint string // parts of them
}

// What fails, and why, is the same in psql, in the log, on the status page and in check.
func testSSMWords(t *testing.T, cluster *aurora.Cluster) {
	const (
		old, kms, shell = "i-0000000000000000a", "i-0000000000000000b", "i-0000000000000000c"
		closed, denied  = "i-0000000000000000d", "i-0000000000000000e"
		unknown, twin   = "i-0000000000000000f", "i-00000000000000010"
		arn             = "arn:aws:ec2:eu-west-1:" + account + ":instance/"
		bobARN          = "arn:aws:iam::" + account + ":user/bob"
	)
	s := startSessionManager(t, cluster, &fakessm.Gateway{Agents: map[string]fakessm.Agent{
		old: {Version: "3.0.100.0"}, kms: {KMSKey: "arn:aws:kms:eu-west-1:" + account + ":key/a"}, shell: {SessionType: "Standard_Stream"},
		closed: {Routes: map[string]string{aurora.DefaultHost: "127.0.0.1:1"}},
	}})
	for _, id := range []string{old, kms, shell, closed, denied, twin} {
		s.aws.AddNode(fakeaws.Node{ID: id, Tags: map[string]string{"Env": id[len(id)-1:]}})
	}
	for _, id := range []string{old, kms} {
		s.aws.AddNode(fakeaws.Node{ID: id, Tags: map[string]string{"Name": "bastion"}})
	}
	s.aws.Attach(ssmCaller, fakeaws.Policy{Deny: true, Actions: []string{"ssm:StartSession"}, Resources: []string{arn + denied}})
	bob := sigv4.Key{AccessKeyID: "AKIABOB", SecretAccessKey: newSecret("a secret access key")}
	s.aws.AddKey(bob, bobARN)
	s.aws.Allow(bobARN, "ssm:*")
	config := filepath.Join(t.TempDir(), "config")
	writeFile(t, config, []byte("[profile bob]\naws_access_key_id = "+bob.AccessKeyID+"\naws_secret_access_key = "+bob.SecretAccessKey+"\n"))
	s.env = append(s.env, "AWS_CONFIG_FILE="+config)

	failures := map[string]ssmFailure{
		"not connected":    {unknown, pgwire.SSMTargetUnavailable, "to " + unknown + ": the target is not connected", "aws ssm describe-instance-information"},
		"no such tag":      {"tag:Name=nothing", pgwire.SSMTargetUnavailable, "no node with the tag Name=nothing", "Check the tag"},
		"ambiguous tag":    {"tag:Name=bastion", pgwire.SSMTargetUnavailable, "2 nodes have the tag Name=bastion: " + old + " (", "replace tag:Name=bastion with one of them, such as " + old},
		"denied node":      {denied, pgwire.SSMAccessDenied, "ssm:StartSession on " + arn + denied + " is not allowed", "Allow the caller ssm:StartSession on " + arn + denied},
		"denied channel":   {instance + "?profile=bob", pgwire.SSMUnreachable, "answered the request for a WebSocket with status 403", "Allow the caller ssmmessages:OpenDataChannel"},
		"old agent":        {old, pgwire.SSMAgentUnsupported, "SSM Agent 3.0.100.0 is older than 3.0.197", "AWS-UpdateSSMAgent --targets Key=InstanceIds,Values=" + old},
		"KMS":              {kms, pgwire.SSMAgentUnsupported, `SSM Agent requested "KMSEncryption"`, "Session Manager preferences"},
		"shell":            {shell, pgwire.SSMAgentUnsupported, `a session of type "Standard_Stream"`, "Session Manager preferences"},
		"database refuses": {closed, pgwire.SSMConnectFailed, closed + " could not connect to " + aurora.DefaultHost + ":5432", "security group of " + closed + " to reach " + aurora.DefaultHost + ":5432"},
	}
	names := slices.Sorted(maps.Keys(failures))
	args := []string{"--connect-timeout=3s", "--ca-file=" + cluster.CAFile(), "--admin=127.0.0.1:0", "--log-level=debug"}
	for _, name := range names {
		args = append(args, aurora.DefaultHost+"?listen=127.0.0.1:0&via=ssm://"+failures[name].via)
	}
	p := startProxy(t, s.env, args...)
	t.Run("all", func(t *testing.T) {
		for i, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := failures[name]
				out, err := psqlAt(t, conninfoAt(p.listens[i]), "select 1")
				if err == nil {
					t.Fatal("psql got in")
				}
				f.wantIn(t, "psql", out)
				until(t, "the log to have it", func() bool {
					return hasLine(p.logs(), `"reason":"`+string(f.reason)+`"`, quotedPart(f.message))
				})
				_, page := p.get("/")
				if !strings.Contains(html.UnescapeString(page), f.message) {
					t.Errorf("the status page does not have %q", f.message)
				}
				f.check(t, s)
			})
		}
	})
}

// wantIn fails unless a text has the message and the hint.
func (f ssmFailure) wantIn(t testing.TB, what, text string) {
	t.Helper()
	for _, part := range []string{f.message, f.hint} {
		if !strings.Contains(text, part) {
			t.Errorf("%s: %s\nwant %s", what, text, part)
		}
	}
}

// quotedPart returns a text as it is within a string of JSON.
func quotedPart(text string) string {
	quoted, _ := json.Marshal(text) // never fails
	return strings.Trim(string(quoted), `"`)
}

// check fails unless the command check finds the same.
func (f ssmFailure) check(t *testing.T, s *sessionManager) {
	cmd := s.command(t, "check", aurora.DefaultHost, "--user="+aurora.IAMUser, "--database="+aurora.Database, "--via=ssm://"+cmp.Or(f.via, instance), "--json")
	out, err := combinedOutput(t, cmd)
	var report check.Report
	if err == nil || json.Unmarshal(out, &report) != nil {
		t.Fatalf("check: %v: %s", err, out)
	}
	if report.Reason != string(f.reason) {
		t.Errorf("check found %q, want %q", report.Reason, f.reason)
	}
	f.wantIn(t, "check", report.Cause+"\n"+report.Next)
}
