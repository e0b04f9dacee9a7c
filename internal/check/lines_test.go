package check

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

var resource = auth.Resource{Kind: auth.Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-ABC"}

func newRun(user string) *run {
	return &run{Check: &Check{
		Endpoint: endpoint.Endpoint{Host: host, Port: "5432", Name: auth.ParseName(host), Region: "eu-west-1", User: user, Database: "postgres"},
		Dialer:   &upstream.Dialer{Endpoint: host + ":5432"},
	}}
}

func TestLines(t *testing.T) {
	plain := newRun("app")
	odd := newRun("o'brien")
	odd.Endpoint.Host, odd.Endpoint.Name = "db.example.com", auth.Name{}
	odd.Endpoint.Port, odd.Endpoint.Database, odd.Endpoint.Region = "6000", "my db", "eu-west-2"
	odd.Endpoint.Signer.Profile, odd.Endpoint.Via, odd.Endpoint.SSLNegotiation, odd.CAFile = "dev", "localhost:15432", "direct", "my ca.pem"
	for got, want := range map[string]string{
		plain.again():        "iamproxy check " + host + " --user app",
		plain.grant("app"):   "iamproxy grant " + host + " --user app",
		odd.again():          "iamproxy check 'db.example.com:6000?region=eu-west-2&sslnegotiation=direct' --user 'o'\\''brien' --database 'my db' --profile dev --via localhost:15432 --ca-file 'my ca.pem'",
		odd.grant("o'brien"): "iamproxy grant 'db.example.com:6000?region=eu-west-2&sslnegotiation=direct' --user 'o'\\''brien' --via localhost:15432 --ca-file 'my ca.pem'",
		odd.ofAccount():      "iamproxy check 'db.example.com:6000?region=eu-west-2&sslnegotiation=direct' --user 'o'\\''brien' --database 'my db' --profile PROFILE_OF_ITS_ACCOUNT --via localhost:15432 --ca-file 'my ca.pem'",
		plain.awsLine("rds", "x", "--query", "A[].B"): "aws rds x --query 'A[].B' --region eu-west-1",
		odd.awsLine("rds", "x"):                       "aws rds x --region eu-west-2 --profile dev",
		plain.atPort(6543):                            "iamproxy check " + host + ":6543 --user app",
		plain.enableIAM(rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb"}):                     "aws rds modify-db-cluster --db-cluster-identifier mydb --enable-iam-database-authentication --apply-immediately --region eu-west-1",
		plain.enableIAM(rdsapi.Database{Resource: auth.Resource{Kind: auth.Instance, ID: "db-A"}, Identifier: "one"}): "aws rds modify-db-instance --db-instance-identifier one --enable-iam-database-authentication --apply-immediately --region eu-west-1",
		plain.enableIAM(rdsapi.Database{Resource: auth.Resource{Kind: auth.RDSProxy, ID: "prx-a"}, Identifier: "p"}):  "# If no client logs in to the RDS Proxy p with this user's password, require IAM authentication (IAMAuth REQUIRED) for the user's secret. Otherwise create another RDS Proxy for tokens.",
		plain.start(rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb", Status: "stopped"}):      "aws rds start-db-cluster --db-cluster-identifier mydb --region eu-west-1",
		plain.start(rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb", Status: "starting"}):     "aws rds wait db-cluster-available --db-cluster-identifier mydb --region eu-west-1",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	plain.seen.database = &rdsapi.Database{MasterSecret: "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!x"}
	if got := plain.grant("app"); !strings.HasPrefix(got, "iamproxy grant ") || !strings.HasSuffix(got, "--admin-secret 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!x'") {
		t.Errorf("got %s", got)
	}
	plain.seen.database = &rdsapi.Database{MasterUser: "boss"}
	if got := plain.grant("app"); !strings.HasSuffix(got, " --admin-user boss") {
		t.Errorf("got %s", got)
	}
	elsewhere := newRun("app")
	elsewhere.Endpoint.Region = "us-east-1" // not that of the name
	for _, line := range []string{elsewhere.again(), elsewhere.grant("app"), elsewhere.awsLine("rds", "x"), elsewhere.atPort(1), elsewhere.ofAccount(), elsewhere.writePolicy()} {
		if strings.Contains(line, "us-east-1") {
			t.Errorf("in the wrong region: %s", line)
		}
	}
	reader := newRun("app")
	reader.Endpoint.Host, reader.Endpoint.Target = strings.Replace(host, ".cluster-", ".cluster-ro-", 1), "any"
	reader.Endpoint.Name = auth.ParseName(reader.Endpoint.Host)
	reader.seen.database = &rdsapi.Database{InCluster: true, Writer: host}
	if got := reader.grant("app"); got != "iamproxy grant "+host+" --user app" {
		t.Errorf("at a reader: %s", got)
	}
}

// The policy is attached to the caller, for one user of one database.
func TestPutPolicy(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no POSIX shell")
	}
	for caller, want := range map[string]string{
		"arn:aws:sts::111122223333:assumed-role/app/i-012":                                        "aws iam put-role-policy --role-name app --policy-name iamproxy-cluster-ABC-o=27b --policy-document '",
		"arn:aws:iam::111122223333:user/people/jane":                                              "aws iam put-user-policy --user-name jane --policy-name iamproxy-cluster-ABC-o=27b --policy-document '",
		"arn:aws:iam::111122223333:user/jane":                                                     "aws iam put-user-policy --user-name jane --policy-name ",
		"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Dev_Ops_0123456789abcdef/jane@x":   "# In IAM Identity Center, add this to the inline policy of the permission set Dev_Ops: {",
		"arn:aws:sts::111122223333:federated-user/jane":                                           "# Attach this policy to the identity that signs: {",
		"arn:aws-us-gov:sts::111122223333:assumed-role/AWSReservedSSO_not_a_set/0123456789abcdef": "aws iam put-role-policy --role-name AWSReservedSSO_not_a_set ",
	} {
		r := newRun("o'b")
		r.seen.caller = auth.Caller{ARN: caller, Account: "111122223333"}
		got := r.putPolicy(resource)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", caller, got, want)
		}
		if strings.HasPrefix(got, "#") {
			continue
		}
		out, err := exec.Command("sh", "-c", `aws() { for last; do :; done; printf %s "$last"; }; `+got).Output()
		var document struct {
			Statement []struct {
				Effect, Action string
				Resource       []string
			}
		}
		if err != nil || json.Unmarshal(out, &document) != nil || len(document.Statement) != 1 {
			t.Fatalf("the shell prints %q: %v", out, err)
		}
		if s := document.Statement[0]; s.Effect != "Allow" || s.Action != "rds-db:connect" || !slices.Equal(s.Resource, []string{"arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-ABC/o'b"}) {
			t.Errorf("the policy allows %+v", s)
		}
	}
	if policyName(resource, "a b") == policyName(resource, "a_b") || policyName(resource, "a b") == policyName(resource, "a=20b") {
		t.Error("the policies of two users have the same name")
	}
	if name := policyName(resource, strings.Repeat("x", 200)); len(name) != maxPolicyName {
		t.Errorf("the name has %d characters", len(name))
	}
}

func TestDescribeTLS(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	named := func(name string) *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: name}} }
	leaf := named("mydb")
	leaf.NotAfter = now.Add(312*24*time.Hour + time.Hour)
	state := tls.ConnectionState{
		Version:          tls.VersionTLS13,
		PeerCertificates: []*x509.Certificate{leaf},
		VerifiedChains:   [][]*x509.Certificate{{leaf, named("Sub CA"), named("Root CA")}},
	}
	if got, want := describeTLS(state, now), "TLS 1.3, certificate by Sub CA, Root CA, valid until 2026-11-09 (312 days)"; got != want {
		t.Errorf("got %q", got)
	}
	if got := describeTLS(state, now.Add(300*24*time.Hour)); !strings.HasSuffix(got, " (only 12 days)") {
		t.Errorf("got %q", got)
	}
}

func TestIsDown(t *testing.T) {
	for status, want := range map[string]bool{
		"available": false, "backing-up": false, "modifying": false, "storage-optimization": false, "incompatible-create": true, "": false,
		"stopped": true, "stopping": true, "starting": true, "creating": true, "deleting": true, "inaccessible-encryption-credentials": true,
	} {
		if isDown(status) != want {
			t.Errorf("%s: %v", status, !want)
		}
	}
}

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.3.4": "private", "::ffff:172.31.0.9": "private", "fd00::1": "private", "127.0.0.1": "this host", "52.1.2.3": "public", "2600:1f18::1": "public",
	} {
		if got := networkOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}

// A policy is only suggested if it would be sufficient.
func TestNotAllowed(t *testing.T) {
	for name, test := range map[string]struct {
		decision rdsapi.Decision
		state    State
		found    string
		next     string
	}{
		"none":                {rdsapi.Decision{}, Failed, "no policy", "aws iam put-role-policy "},
		"denied":              {rdsapi.Decision{Denied: true, By: "policy nightly"}, Failed, "policy nightly", "# A Deny overrides every Allow. If it should not apply here, change policy nightly."},
		"organization":        {rdsapi.Decision{Denied: true, By: "a policy of the organization"}, Failed, "organization", "# A Deny overrides"},
		"boundary":            {rdsapi.Decision{By: "the permissions boundary"}, Failed, "boundary", "# Allow it in this policy, too: the permissions boundary."},
		"condition":           {rdsapi.Decision{Missing: []string{"aws:x"}}, NoAnswer, "aws:x", ""},
		"denied, condition":   {rdsapi.Decision{Denied: true, By: "policy nightly", Missing: []string{"aws:x"}}, Failed, "policy nightly", "# A Deny overrides"},
		"boundary, condition": {rdsapi.Decision{By: "the permissions boundary", Missing: []string{"aws:x"}}, Failed, "boundary", "# Allow it in this policy, too"},
	} {
		r := newRun("app")
		r.seen.caller = auth.Caller{ARN: "arn:aws:sts::111122223333:assumed-role/app/x", Account: "111122223333"}
		res := r.notAllowed(resource, test.decision)
		if res.state != test.state || !strings.HasPrefix(res.next, test.next) || !strings.Contains(res.found, test.found) {
			t.Errorf("%s: %+v", name, res)
		}
	}
	r := newRun("app")
	r.seen.caller = auth.Caller{ARN: "arn:aws:sts::444455556666:assumed-role/app/x", Account: "444455556666"}
	if res := r.notAllowed(resource, rdsapi.Decision{By: "another account"}); res.state != Failed || !strings.HasSuffix(res.next, "--profile PROFILE_OF_ITS_ACCOUNT") {
		t.Errorf("another account: %+v", res)
	}
}

func TestConnectAdvice(t *testing.T) {
	refused, silent := error(syscall.ECONNREFUSED), errors.New("i/o timeout")
	found := &rdsapi.Database{Resource: resource, InCluster: true, Identifier: "mydb", Status: "stopped", Port: 5432, SecurityGroups: []string{"sg-1", "sg-2"}}
	for name, test := range map[string]struct {
		err    error
		change func(*run)
		want   string
	}{
		"refused":       {refused, func(r *run) {}, "aws rds describe-db-clusters --db-cluster-identifier mydb --query 'DBClusters[0].[Status,Endpoint,Port]' --region eu-west-1"},
		"silent":        {silent, func(r *run) {}, "aws ec2 authorize-security-group-ingress --group-id SECURITY_GROUP_ID --protocol tcp --port 5432 --cidr ADDRESS_OF_THIS_HOST/32 --region eu-west-1"},
		"known group":   {silent, func(r *run) { r.seen.database = found }, "aws ec2 authorize-security-group-ingress --group-id sg-1 --protocol tcp --port 5432 --cidr ADDRESS_OF_THIS_HOST/32 --region eu-west-1"},
		"stopped":       {silent, func(r *run) { r.seen.database, r.seen.down = found, true }, "aws rds start-db-cluster --db-cluster-identifier mydb --region eu-west-1"},
		"another port":  {refused, func(r *run) { r.seen.database, r.Endpoint.Port = found, "6000" }, "iamproxy check " + host + " --user app"},
		"by a resolver": {silent, func(r *run) { r.seen.addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }, "aws ec2 authorize-security-group-ingress --group-id SECURITY_GROUP_ID --protocol tcp --port 5432 --cidr ADDRESS_OF_THIS_HOST/32 --region eu-west-1"},
	} {
		r := newRun("app")
		test.change(r)
		if got := r.connectAdvice(t.Context(), test.err); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
