package ssm

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func apiError(code, message string) error {
	return fmt.Errorf("start: %w", &requestError{"StartSession", &smithy.GenericAPIError{Code: code, Message: message}})
}

// Each failure has its reason, SQLSTATE, cause and hint.
func TestExplain(t *testing.T) {
	const (
		host     = "mydb.cluster-abc.eu-west-1.rds.amazonaws.com"
		instance = "arn:aws:ec2:eu-west-1:111122223333:instance/i-01"
		denied   = "User: arn:aws:iam::111122223333:user/jane is not authorized to perform: ssm:StartSession on resource: " + instance +
			" because no identity-based policy allows the ssm:StartSession action"
	)
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, test := range map[string]struct {
		target string
		err    error
		reason pgwire.Reason
		code   string
		text   string
		hint   string
	}{
		"not connected": {"i-01", apiError("TargetNotConnected", "i-01 is not connected."), pgwire.SSMTargetUnavailable, "57P03",
			"to i-01: the target is not connected", "`aws ssm describe-instance-information --region eu-west-1` lists the nodes of the account and region with their PingStatus."},
		"container not connected": {"ecs:c_0f_1", apiError("TargetNotConnected", ""), pgwire.SSMTargetUnavailable, "57P03",
			"to ecs:c_0f_1: the target is not connected", "enableExecuteCommand"},
		"denied": {"i-01", apiError("AccessDeniedException", denied), pgwire.SSMAccessDenied, "28000",
			"ssm:StartSession on " + instance + " is not allowed: no identity-based policy allows", "`iamproxy policy DB --profile dev` prints"},
		"data channel denied": {"i-01", &UpgradeError{Status: 403, Code: "AccessDeniedException", Host: "h"}, pgwire.SSMAccessDenied, "28000",
			"ssmmessages:OpenDataChannel is not allowed", "Allow the caller ssmmessages:OpenDataChannel."},
		"rejected": {"mi-01", apiError("BadRequestException", "Enable advanced-instances tier"), pgwire.SSMTargetUnavailable, "57P03",
			"to mi-01: ssm:StartSession: BadRequest: Enable advanced-instances tier", "advanced-instances tier of Systems Manager"},
		"throttled": {"i-01", apiError("ThrottlingException", "Rate exceeded"), pgwire.SSMUnreachable, "57P03",
			"Systems Manager's API throttles requests", ""},
		"expired credentials": {"i-01", apiError("ExpiredTokenException", "secret"), pgwire.Reason(auth.ReasonCredentialsRejected), "28000",
			"AWS rejects the credentials: they have expired", "Renew the credentials"},
		"SSO": {"i-01", &auth.Error{Code: auth.ReasonSSOExpired, Message: "the SSO login has expired", Hint: "Run: aws sso login"}, pgwire.Reason(auth.ReasonSSOExpired), "28000",
			"to i-01: the SSO login has expired", "Run: aws sso login"},
		"no WebSocket": {"i-01", &UpgradeError{Status: 200, Host: "ssmmessages.eu-west-1.amazonaws.com"}, pgwire.SSMUnreachable, "57P03",
			"ssmmessages.eu-west-1.amazonaws.com answered the request for a WebSocket with status 200", "NO_PROXY=ssmmessages.eu-west-1.amazonaws.com"},
		"forbidden WebSocket": {"i-01", &UpgradeError{Status: 403, Host: "h"}, pgwire.SSMUnreachable, "57P03", "with status 403", "Allow the caller ssmmessages:OpenDataChannel."},
		"untrusted":           {"i-01", &UpgradeError{Host: "h", Err: errors.New("x509: unknown authority")}, pgwire.SSMUnreachable, "57P03", "could not reach h: x509: unknown authority", ""},
		"no route":            {"i-01", &UpgradeError{Host: "h", Err: refused}, pgwire.SSMUnreachable, "57P03", "could not reach h: connection refused", ""},
		"old agent": {"i-01", &AgentVersionError{"2.3.0.0", "i-01"}, pgwire.SSMAgentUnsupported, "08001", "SSM Agent 2.3.0.0 is older",
			"AWS-UpdateSSMAgent --targets Key=InstanceIds,Values=i-01 --region eu-west-1"},
		"old agent of a tag": {"tag:Name=bastion", &AgentVersionError{"2.3.0.0", "i-02"}, pgwire.SSMAgentUnsupported, "08001", "to tag:Name=bastion: SSM Agent 2.3.0.0",
			"Values=i-02 --region"},
		"KMS":            {"i-01", &channel.ActionError{Action: message.KMSEncryption}, pgwire.SSMAgentUnsupported, "08001", "KMSEncryption", "preferences"},
		"unacknowledged": {"i-01", channel.ErrUnacknowledged, pgwire.SSMSessionEnded, "57P03", "did not acknowledge", "Connect again"},
		"no handshake":   {"i-01", channel.ErrHandshakeTimeout, pgwire.SSMTargetUnavailable, "57P03", "did not finish the handshake", ""},
		"ended": {"i-01", &channel.EndedError{Output: "Your session\r\ntimed out"}, pgwire.SSMSessionEnded, "57P03",
			"session to i-01 ended: Your session timed out", "idle for 20 minutes"},
		"lost": {"i-01", &channel.LostError{Outage: 5 * time.Minute, Err: &UpgradeError{Host: "h", Err: refused}}, pgwire.SSMSessionEnded, "57P03",
			"could not resume it within", "endpoints ssm and ssmmessages"},
		"client does not read": {"i-01", ErrStuck, pgwire.ConnectionBroken, "57P03", "client does not read", ""},
		"stopped":              {"i-01", ErrStopped, pgwire.ShuttingDown, "57P03", "shutting down", ""},
	} {
		target, err := ParseTarget(test.target)
		if err != nil {
			t.Fatal(err)
		}
		f := &Forward{Name: "ssm://" + test.target, Target: target, Host: host, Port: "5432", CLIFlags: "--region eu-west-1", PolicyCommand: "iamproxy policy DB --profile dev"}
		got := f.explain(test.err)
		if got.Reason != test.reason || got.Code != test.code || !strings.Contains(got.Error(), test.text) || !strings.Contains(got.Hint, test.hint) ||
			strings.Contains(got.Error()+got.Hint, "secret") {
			t.Errorf("%s: %s %s: %v. %s", name, got.Reason, got.Code, got, got.Hint)
		}
		if f.explain(fmt.Errorf("again: %w", got)) != got {
			t.Errorf("%s: explained twice", name)
		}
	}
}

// The hint names the security group of the node, which a server on the node itself does not need.
func TestConnectError(t *testing.T) {
	for host, want := range map[string]string{
		"db.example.com": "allows the security group of i-01 to reach db.example.com:6432",
		"localhost":      "Check that a server listens on port 6432 of i-01.",
	} {
		f := &Forward{Target: Target{Kind: Tag, Key: "Name", Value: "bastion"}, Host: host, Port: "6432"}
		got := f.connectError("i-01")
		if got.Reason != pgwire.SSMConnectFailed || got.Error() != "i-01 could not connect to "+host+":6432" || !strings.Contains(got.Hint, want) {
			t.Errorf("%v. %s", got, got.Hint)
		}
	}
}

// A tag names the one node that is connected. Otherwise the error lists the candidates.
func TestChoose(t *testing.T) {
	online := func(id, name string) node { return node{id, name, "Online"} }
	var many []node
	for i := range 7 {
		many = append(many, online(fmt.Sprintf("i-%d", i), ""))
	}
	for _, test := range []struct {
		nodes      []node
		id         string
		text, hint string
	}{
		{[]node{online("i-1", "")}, "i-1", "", ""},
		{[]node{{"i-1", "old", "ConnectionLost"}, online("i-2", "new")}, "i-2", "", ""},
		{nil, "", "no node with the tag Name=bastion in this account and region", "region=REGION"},
		{[]node{{"i-1", "old", "ConnectionLost"}}, "", "no node with the tag Name=bastion is connected: i-1 (old, ConnectionLost)", "Start the node"},
		{[]node{online("i-1", "a"), online("i-2", "")}, "", "2 nodes have the tag Name=bastion: i-1 (a), i-2 (no name)", "replace tag:Name=bastion with one of them, such as i-1"},
		{many, "", "i-4 (no name), and 2 more", "such as i-0"},
	} {
		f := &Forward{Target: Target{Kind: Tag, Key: "Name", Value: "bastion"}, CLIFlags: "--region eu-west-1"}
		id, err := choose(f.Target, test.nodes)
		if id != test.id || (err != nil) != (test.id == "") {
			t.Errorf("%v: %q, %v", test.nodes, id, err)
		}
		if err == nil {
			continue
		}
		if got := f.explain(err); got.Reason != pgwire.SSMTargetUnavailable || !strings.Contains(got.Error(), test.text) || !strings.Contains(got.Hint, test.hint) ||
			!strings.Contains(got.Hint, "`aws ssm describe-instance-information --region eu-west-1` lists the nodes") {
			t.Errorf("%v: %v. %s", test.nodes, got, got.Hint)
		}
	}
}
