package fakeaws_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const sessionARN = "arn:aws:sts::111122223333:assumed-role/app/it"

func TestGetCallerIdentity(t *testing.T) {
	a, _ := start(t)
	got, err := callerIdentity(jane)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(got.Arn) != janeARN || aws.ToString(got.Account) != "111122223333" || !strings.HasPrefix(aws.ToString(got.UserId), "AIDA") {
		t.Errorf("%s of %s, %s", aws.ToString(got.Arn), aws.ToString(got.Account), aws.ToString(got.UserId))
	}
	session := sigv4.Key{AccessKeyID: "ASIASESSION", SecretAccessKey: "s", SessionToken: "t"}
	a.AddKey(session, sessionARN)
	if got, err = callerIdentity(session); err != nil {
		t.Fatal(err)
	}
	if id := aws.ToString(got.UserId); !strings.HasPrefix(id, "AROA") || !strings.HasSuffix(id, ":it") {
		t.Errorf("user ID of a session: %s", id)
	}
	if n := a.Requests(fakeaws.STS); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestSignatureRefused(t *testing.T) {
	a, _ := start(t)
	expired := sigv4.Key{AccessKeyID: "ASIAOLD", SecretAccessKey: "s", SessionToken: "t", Expires: time.Now().Add(-time.Second)}
	fresh := sigv4.Key{AccessKeyID: "ASIANEW", SecretAccessKey: "s", SessionToken: "t", Expires: time.Now().Add(time.Hour)}
	a.AddKey(expired, janeARN)
	a.AddKey(fresh, janeARN)
	with := func(k sigv4.Key, change func(*sigv4.Key)) sigv4.Key { change(&k); return k }
	for name, test := range map[string]struct {
		key  sigv4.Key
		code string
	}{
		"unknown key":          {with(jane, func(k *sigv4.Key) { k.AccessKeyID = "AKIAOTHER" }), "InvalidClientTokenId"},
		"wrong secret":         {with(jane, func(k *sigv4.Key) { k.SecretAccessKey = "x" }), "SignatureDoesNotMatch"},
		"wrong session token":  {with(fresh, func(k *sigv4.Key) { k.SessionToken = "x" }), "InvalidClientTokenId"},
		"no session token":     {with(fresh, func(k *sigv4.Key) { k.SessionToken = "" }), "InvalidClientTokenId"},
		"one session too many": {with(jane, func(k *sigv4.Key) { k.SessionToken = "x" }), "InvalidClientTokenId"},
		"expired":              {expired, "ExpiredToken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := callerIdentity(test.key)
			expectRefusal(t, err, 403, test.code)
		})
	}
	if _, err := callerIdentity(fresh); err != nil {
		t.Errorf("not expired yet: %v", err)
	}
}

func TestAssumeRole(t *testing.T) {
	a, keys := start(t)
	a.AllowRole(fakeaws.Role{ARN: roleARN, Trusts: []string{janeARN}, ExternalID: "external"})
	writeConfig(t, "[default]", "role_arn="+roleARN, "source_profile=jane", "role_session_name=it", "external_id=external",
		"duration_seconds=7200", "[profile jane]", "aws_access_key_id="+jane.AccessKeyID, "aws_secret_access_key="+jane.SecretAccessKey)
	got, err := retrieve(t)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 2*time.Hour, sessionARN)
	a.SetLife(10 * time.Minute)
	if got, err = retrieve(t); err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 10*time.Minute, sessionARN)
	if all := keys.all(); len(all) != 2 || all[0].AccessKeyID == all[1].AccessKeyID {
		t.Errorf("keys issued: %+v", all)
	}
}

// TestAssumeRoleChain assumes app as jane, and db as app.
func TestAssumeRoleChain(t *testing.T) {
	a, keys := start(t)
	const dbARN = "arn:aws:iam::111122223333:role/db"
	a.AllowRole(fakeaws.Role{ARN: roleARN, Trusts: []string{janeARN}})
	writeConfig(t, "[default]", "role_arn="+dbARN, "source_profile=app", "role_session_name=it",
		"[profile app]", "role_arn="+roleARN, "source_profile=jane", "role_session_name=it",
		"[profile jane]", "aws_access_key_id="+jane.AccessKeyID, "aws_secret_access_key="+jane.SecretAccessKey)
	for _, trusted := range []string{"arn:aws:iam::111122223333:role/app", sessionARN} {
		a.AllowRole(fakeaws.Role{ARN: dbARN, Trusts: []string{trusted}})
		got, err := retrieve(t)
		if err != nil {
			t.Fatal(err)
		}
		expectKey(t, keys, got, 15*time.Minute, "arn:aws:sts::111122223333:assumed-role/db/it")
	}
	a.AllowRole(fakeaws.Role{ARN: dbARN, Trusts: []string{janeARN, "arn:aws:iam::111122223333:role/other"}})
	_, err := retrieve(t, once)
	expectRefusal(t, err, 403, "AccessDenied")
}

func TestAssumeRoleRefused(t *testing.T) {
	a, keys := start(t)
	a.AllowRole(fakeaws.Role{ARN: roleARN, Trusts: []string{janeARN}, ExternalID: "external"})
	good := sts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("it"), ExternalId: aws.String("external")}
	john := sigv4.Key{AccessKeyID: "AKIAJOHN", SecretAccessKey: "s"}
	a.AddKey(john, "arn:aws:iam::111122223333:user/john")
	wrong := jane
	wrong.SecretAccessKey = "x"
	for name, test := range map[string]struct {
		change func(*sts.AssumeRoleInput)
		key    sigv4.Key
		status int
		code   string
	}{
		"unknown role":     {func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(roleARN + "x") }, jane, 403, "AccessDenied"},
		"another external": {func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("other") }, jane, 403, "AccessDenied"},
		"no external":      {func(in *sts.AssumeRoleInput) { in.ExternalId = nil }, jane, 403, "AccessDenied"},
		"not trusted":      {func(*sts.AssumeRoleInput) {}, john, 403, "AccessDenied"},
		"bad signature":    {func(*sts.AssumeRoleInput) {}, wrong, 403, "SignatureDoesNotMatch"},
		"not a role":       {func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String(janeARN) }, jane, 400, "ValidationError"},
		"not an ARN":       {func(in *sts.AssumeRoleInput) { in.RoleArn = aws.String("role/app") }, jane, 400, "ValidationError"},
		"bad session name": {func(in *sts.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") }, jane, 400, "ValidationError"},
		"too short":        {func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) }, jane, 400, "ValidationError"},
		"too long":         {func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(43201) }, jane, 400, "ValidationError"},
	} {
		t.Run(name, func(t *testing.T) {
			in := good
			test.change(&in)
			_, err := stsClient(test.key).AssumeRole(context.Background(), &in)
			expectRefusal(t, err, test.status, test.code)
		})
	}
	if got := keys.all(); len(got) != 0 {
		t.Errorf("keys issued: %+v", got)
	}
	for _, seconds := range []int32{900, 43200} {
		in := good
		in.DurationSeconds = aws.Int32(seconds)
		got, err := stsClient(jane).AssumeRole(context.Background(), &in)
		if err != nil {
			t.Fatal(err)
		}
		life := time.Until(aws.ToTime(got.Credentials.Expiration)).Round(time.Minute)
		if life != time.Duration(seconds)*time.Second || aws.ToString(got.AssumedRoleUser.Arn) != sessionARN {
			t.Errorf("%v for %d s, %s", life, seconds, aws.ToString(got.AssumedRoleUser.Arn))
		}
	}
}

func TestWebIdentity(t *testing.T) {
	a, keys := start(t)
	a.AllowRole(fakeaws.Role{ARN: roleARN, WebIdentity: "first"})
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", roleARN)
	t.Setenv("AWS_ROLE_SESSION_NAME", "it")
	show := func(token string) (aws.Credentials, error) {
		write(t, file, token)
		return retrieve(t, once)
	}
	got, err := show("first")
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, time.Hour, sessionARN)
	_, err = show("other")
	expectRefusal(t, err, 400, "InvalidIdentityToken")

	a.AllowRole(fakeaws.Role{ARN: roleARN, WebIdentity: "second"})
	_, err = show("first")
	expectRefusal(t, err, 400, "ExpiredTokenException")
	if _, err = show("second"); err != nil {
		t.Error(err)
	}
	a.AllowRole(fakeaws.Role{ARN: roleARN, WebIdentity: "first"})
	if _, err = show("first"); err != nil {
		t.Errorf("once more: %v", err)
	}
	a.AllowRole(fakeaws.Role{ARN: roleARN, Trusts: []string{janeARN}})
	_, err = show("other")
	expectRefusal(t, err, 403, "AccessDenied")
	t.Setenv("AWS_ROLE_ARN", roleARN+"x")
	_, err = show("first")
	expectRefusal(t, err, 403, "AccessDenied")
}

func TestNotAnAction(t *testing.T) {
	start(t)
	endpoint := os.Getenv("AWS_ENDPOINT_URL_STS")
	_, err := stsClient(jane).GetSessionToken(context.Background(), &sts.GetSessionTokenInput{})
	expectRefusal(t, err, 400, "InvalidAction")
	if status, _ := do(t, "GET", endpoint, nil); status != 404 {
		t.Errorf("GET: %d", status)
	}
	_, err = sts.New(sts.Options{Region: region, BaseEndpoint: &endpoint, Retryer: aws.NopRetryer{}, Credentials: aws.AnonymousCredentials{}}).
		GetCallerIdentity(context.Background(), &sts.GetCallerIdentityInput{})
	expectRefusal(t, err, 403, "MissingAuthenticationToken")
}

// TestClockOffset has a wrong clock: the SDK learns the time from an error, and signs
// again.
func TestClockOffset(t *testing.T) {
	for _, ahead := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			a, keys := start(t)
			a.SetClockOffset(ahead)
			_, err := callerIdentity(jane)
			expectRefusal(t, err, 403, "SignatureDoesNotMatch")

			a.AllowRole(fakeaws.Role{ARN: roleARN, Trusts: []string{janeARN}})
			t.Setenv("AWS_ACCESS_KEY_ID", jane.AccessKeyID)
			t.Setenv("AWS_SECRET_ACCESS_KEY", jane.SecretAccessKey)
			cfg, err := config.LoadDefaultConfig(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			client := sts.NewFromConfig(cfg)
			before := a.Requests(fakeaws.STS)
			for range 2 {
				_, err := client.AssumeRole(context.Background(), &sts.AssumeRoleInput{
					RoleArn: aws.String(roleARN), RoleSessionName: aws.String("it"), DurationSeconds: aws.Int32(3600)})
				if err != nil {
					t.Fatal(err)
				}
			}
			if n := a.Requests(fakeaws.STS) - before; n != 3 {
				t.Errorf("%d requests, want 3: one refused, two good", n)
			}
			left := time.Until(keys.all()[0].Expires)
			if want := time.Hour + ahead; left > want || left < want-time.Minute {
				t.Errorf("expires in %v, want %v", left, want)
			}
		})
	}
}
