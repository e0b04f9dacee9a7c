package fakeaws_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	ours    = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	theirs  = "mydb.cluster-czyxwvutsrqp.eu-west-1.rds.amazonaws.com"
	distant = "mydb.cluster-cdistantdist.us-west-2.rds.amazonaws.com"
	secret  = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:mine-abcdef"
)

var mallory = sigv4.Key{AccessKeyID: "AKIAMALLORY", SecretAccessKey: "mallory's secret"}

// startControlPlane starts a fake with a cluster for each of jane and mallory, who has
// another account, and one in another region.
func startControlPlane(t *testing.T) *fakeaws.AWS {
	t.Helper()
	a, _ := start(t)
	a.AddKey(mallory, "arn:aws:iam::444455556666:user/mallory")
	a.AddCluster(fakeaws.Cluster{Endpoint: ours})
	a.AddCluster(fakeaws.Cluster{Endpoint: theirs, Account: "444455556666"})
	a.AddCluster(fakeaws.Cluster{Endpoint: distant})
	a.SetSecret(fakeaws.Secret{ARN: secret, Value: "swordfish"})
	t.Setenv("AWS_ENDPOINT_URL_RDS", a.URL()+"/rds")
	t.Setenv("AWS_ENDPOINT_URL_IAM", a.URL()+"/iam")
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", a.URL()+"/secretsmanager")
	return a
}

// of returns a configuration with k, without retries.
func of(t *testing.T, k sigv4.Key) aws.Config {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(context.Background(), once,
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, k.SessionToken)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func endpoints(t *testing.T, cfg aws.Config, id *string) ([]string, error) {
	t.Helper()
	answer, err := rds.NewFromConfig(cfg).DescribeDBClusters(context.Background(), &rds.DescribeDBClustersInput{DBClusterIdentifier: id})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range answer.DBClusters {
		names = append(names, aws.ToString(c.Endpoint))
	}
	return names, nil
}

// TestAccountsAndRegions shows that resources of other accounts and regions are invisible.
func TestAccountsAndRegions(t *testing.T) {
	a := startControlPlane(t)
	a.Allow(fakeaws.Everyone, "rds:*")
	away := of(t, jane)
	away.Region = "us-west-2"
	for want, cfg := range map[string]aws.Config{ours: of(t, jane), theirs: of(t, mallory), distant: away} {
		for _, id := range []*string{nil, aws.String("MyDB")} {
			if got, err := endpoints(t, cfg, id); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("%v, %v, want %s", got, err, want)
			}
		}
	}
	if n := a.Requests(fakeaws.RDS); n != 6 {
		t.Errorf("%d requests, want 6", n)
	}
	_, err := endpoints(t, of(t, jane), aws.String("other"))
	expectRefusal(t, err, 404, "DBClusterNotFoundFault")
}

func TestAccessDenied(t *testing.T) {
	a := startControlPlane(t)
	_, err := endpoints(t, of(t, jane), aws.String("mydb"))
	expectRefusal(t, err, 403, "AccessDenied")
	const want = "User: " + janeARN + " is not authorized to perform: rds:DescribeDBClusters on resource: " +
		"arn:aws:rds:eu-west-1:111122223333:cluster:mydb because no identity-based policy allows the rds:DescribeDBClusters action"
	if err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	// Listing is another permission than describing one.
	a.Attach(janeARN, fakeaws.Policy{Actions: []string{"rds:Describe*"}, Resources: []string{"*:cluster:my??"}})
	if _, err := endpoints(t, of(t, jane), aws.String("mydb")); err != nil {
		t.Error(err)
	}
	_, err = endpoints(t, of(t, jane), nil)
	expectRefusal(t, err, 403, "AccessDenied")
	a.Detach(janeARN)
	_, err = endpoints(t, of(t, jane), aws.String("mydb"))
	expectRefusal(t, err, 403, "AccessDenied")
}

// TestSignedForAnother has a valid signature for another service.
func TestSignedForAnother(t *testing.T) {
	a := startControlPlane(t)
	a.Allow(fakeaws.Everyone, "*")
	for _, service := range []string{"rds", "iam", "secretsmanager"} {
		r, err := http.NewRequest(http.MethodPost, a.URL()+"/"+service+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: jane.AccessKeyID, SecretAccessKey: jane.SecretAccessKey},
			r, empty, "sts", region, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode < 400 || !strings.Contains(string(body), "Credential should be scoped to correct service") {
			t.Errorf("%d, %s, %v", response.StatusCode, body, err)
		}
		if status, _ := do(t, "GET", a.URL()+"/"+service, nil); status != 404 {
			t.Errorf("GET: %d", status)
		}
	}
}

func TestSimulate(t *testing.T) {
	a := startControlPlane(t)
	a.Allow(janeARN, "iam:*")
	a.Attach(roleARN, fakeaws.Policy{Name: "connect", Actions: []string{"rds-db:connect"}, Resources: []string{"*/app"}})
	client := iam.NewFromConfig(of(t, jane))
	ask := func(who string) (*iam.SimulatePrincipalPolicyOutput, error) {
		return client.SimulatePrincipalPolicy(context.Background(), &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: &who, ActionNames: []string{"rds-db:connect", "s3:GetObject"}, ResourceArns: []string{"x/app", "x/other"}})
	}
	answer, err := ask(roleARN)
	if err != nil {
		t.Fatal(err)
	}
	var decisions []string
	for _, r := range answer.EvaluationResults {
		decisions = append(decisions, string(r.EvalDecision), string(r.ResourceSpecificResults[0].EvalResourceDecision))
	}
	const want = "allowed allowed implicitDeny implicitDeny implicitDeny implicitDeny implicitDeny implicitDeny"
	if got := strings.Join(decisions, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for who, code := range map[string]string{
		sessionARN:                               "InvalidInput",
		"arn:aws:iam::111122223333:root":         "InvalidInput",
		"arn:aws:iam::111122223333:role/app":     "NoSuchEntity", // it has a path
		"arn:aws:iam::111122223333:user/gone":    "NoSuchEntity",
		"arn:aws:iam::444455556666:user/mallory": "NoSuchEntity",
	} {
		_, err := ask(who)
		if status := map[string]int{"InvalidInput": 400, "NoSuchEntity": 404}[code]; err == nil {
			t.Errorf("%s: no error", who)
		} else {
			expectRefusal(t, err, status, code)
		}
	}
	role, err := client.GetRole(context.Background(), &iam.GetRoleInput{RoleName: aws.String("app")})
	if err != nil || aws.ToString(role.Role.Arn) != roleARN || aws.ToString(role.Role.Path) != "/path/" {
		t.Errorf("%+v, %v", role, err)
	}
	_, err = client.GetRole(context.Background(), &iam.GetRoleInput{RoleName: aws.String("gone")})
	expectRefusal(t, err, 404, "NoSuchEntity")
	_, err = client.ListUsers(context.Background(), nil)
	expectRefusal(t, err, 400, "InvalidAction")
}

func TestPermits(t *testing.T) {
	a := startControlPlane(t)
	a.AddKey(sigv4.Key{AccessKeyID: "ASIAAPP", SessionToken: "t"}, sessionARN)
	a.Attach(roleARN, fakeaws.Policy{Actions: []string{"rds-db:connect"}, Resources: []string{"x/app"}})
	for _, test := range []struct {
		id, resource string
		want         bool
	}{{"ASIAAPP", "x/app", true}, {"ASIAAPP", "x/other", false}, {jane.AccessKeyID, "x/app", false}, {"AKIAGONE", "x/app", false}} {
		if got := a.Permits(test.id, "rds-db:connect", test.resource); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestGetSecretValue(t *testing.T) {
	a := startControlPlane(t)
	get := func(k sigv4.Key, id string) (*secretsmanager.GetSecretValueOutput, error) {
		return secretsmanager.NewFromConfig(of(t, k)).GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: &id})
	}
	_, err := get(jane, secret)
	expectRefusal(t, err, 400, "AccessDeniedException")
	a.Allow(fakeaws.Everyone, "secretsmanager:GetSecretValue")
	answer, err := get(jane, secret)
	if err != nil || aws.ToString(answer.SecretString) != "swordfish" || answer.SecretBinary != nil || aws.ToString(answer.Name) != "mine" {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = get(mallory, secret)
	expectRefusal(t, err, 400, "ResourceNotFoundException")
	_, err = get(sigv4.Key{AccessKeyID: "AKIAGONE", SecretAccessKey: "s"}, secret)
	expectRefusal(t, err, 400, "UnrecognizedClientException")
	_, err = get(sigv4.Key{AccessKeyID: jane.AccessKeyID, SecretAccessKey: "s"}, secret)
	expectRefusal(t, err, 400, "InvalidSignatureException")
	old := sigv4.Key{AccessKeyID: "ASIAOLD", SecretAccessKey: "s", SessionToken: "t", Expires: time.Now().Add(-time.Second)}
	a.AddKey(old, janeARN)
	_, err = get(old, secret)
	expectRefusal(t, err, 400, "ExpiredTokenException")
	_, err = secretsmanager.NewFromConfig(of(t, jane)).ListSecrets(context.Background(), nil)
	expectRefusal(t, err, 400, "UnknownOperationException")
}

// TestOnlyOneFails tests Fault.Only, and the clock of all services.
func TestOnlyOneFails(t *testing.T) {
	a := startControlPlane(t)
	a.Allow(fakeaws.Everyone, "*")
	a.SetFault(fakeaws.Fault{Only: fakeaws.IAM, Status: 500})
	if _, err := endpoints(t, of(t, jane), nil); err != nil {
		t.Error(err)
	}
	if _, err := iam.NewFromConfig(of(t, jane)).GetRole(context.Background(), &iam.GetRoleInput{RoleName: aws.String("app")}); err == nil {
		t.Error("IAM answers")
	}
	a.SetClockOffset(time.Hour)
	_, err := endpoints(t, of(t, jane), nil)
	expectRefusal(t, err, 403, "SignatureDoesNotMatch")
}

// A cluster's IAM authentication is changed at once, or is pending.
func TestModifyDBCluster(t *testing.T) {
	a := startControlPlane(t)
	a.Allow(fakeaws.Everyone, "rds:*")
	client := rds.NewFromConfig(of(t, jane))
	for _, now := range []bool{false, true} {
		_, err := client.ModifyDBCluster(t.Context(), &rds.ModifyDBClusterInput{
			DBClusterIdentifier: aws.String("mydb"), EnableIAMDatabaseAuthentication: aws.Bool(true), ApplyImmediately: aws.Bool(now)})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.DescribeDBClusters(t.Context(), &rds.DescribeDBClustersInput{DBClusterIdentifier: aws.String("mydb")})
		if err != nil {
			t.Fatal(err)
		}
		c := answer.DBClusters[0]
		if enabled, pending := aws.ToBool(c.IAMDatabaseAuthenticationEnabled), c.PendingModifiedValues != nil; enabled != now || pending == now {
			t.Errorf("at once %v: enabled %v, pending %v", now, enabled, pending)
		}
	}
	_, err := client.ModifyDBCluster(t.Context(), &rds.ModifyDBClusterInput{DBClusterIdentifier: aws.String("gone")})
	expectRefusal(t, err, 404, "DBClusterNotFoundFault")
}

// An inline policy replaces the one with its name.
func TestPutRolePolicy(t *testing.T) {
	a := startControlPlane(t)
	a.AddKey(sigv4.Key{AccessKeyID: "ASIAAPP", SessionToken: "t"}, sessionARN)
	a.Attach(roleARN, fakeaws.Policy{Name: "other", Actions: []string{"s3:GetObject"}})
	client := iam.NewFromConfig(of(t, jane))
	put := func(role, document string) error {
		_, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{
			RoleName: aws.String(role), PolicyName: aws.String("database"), PolicyDocument: aws.String(document)})
		return err
	}
	document := func(user string) string {
		return `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "rds-db:connect", "Resource": ["x/` + user + `"]}]}`
	}
	expectRefusal(t, put("app", document("app")), 403, "AccessDenied")
	a.Allow(janeARN, "iam:PutRolePolicy")
	expectRefusal(t, put("gone", document("app")), 404, "NoSuchEntity")
	expectRefusal(t, put("app", "{"), 400, "MalformedPolicyDocument")
	for _, user := range []string{"app", "reader"} {
		if err := put("app", document(user)); err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"app", "reader"} {
			if got := a.Permits("ASIAAPP", "rds-db:connect", "x/"+other); got != (other == user) {
				t.Errorf("policy for %s: %s %v", user, other, got)
			}
		}
	}
	if !a.Permits("ASIAAPP", "s3:GetObject", "x") {
		t.Error("the other policy is gone")
	}
}
