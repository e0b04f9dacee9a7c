//go:build unix

package e2e

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	account   = "111122223333"
	appRole   = "arn:aws:iam::" + account + ":role/app"
	hubRole   = "arn:aws:iam::444455556666:role/hub"
	janeUser  = "arn:aws:iam::" + account + ":user/jane"
	shortLife = 15 * time.Second
)

var jane = sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "jane's secret of forty characters, or so"}

// The file of an SSO login.
var (
	ssoAccess       = newSecret("an access token of SSO")
	ssoRefresh      = newSecret("a refresh token of SSO")
	ssoClientSecret = newSecret("a client secret of SSO")
)

// source is one source of AWS credentials: files in a directory of the test, and variables
// of the environment.
type source struct {
	name string
	// set makes it the only source, and returns the environment and flags for it.
	set func(s *sourceTest) (env, args []string)
	// rotates replaces its credentials, if AWS does not.
	rotates func(s *sourceTest)
	asks    string // the service that is used; empty: none
}

var sources = []source{
	{name: "environment", set: func(s *sourceTest) ([]string, []string) {
		s.cluster.AddKey(jane)
		return []string{"AWS_ACCESS_KEY_ID=" + jane.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + jane.SecretAccessKey}, nil
	}},
	{name: "shared credentials file", set: func(s *sourceTest) ([]string, []string) {
		s.rotateFile("credentials", keysProfile)
		return []string{"AWS_SHARED_CREDENTIALS_FILE=" + s.path("credentials")}, []string{"--profile=p"}
	}, rotates: func(s *sourceTest) { s.rotateFile("credentials", keysProfile) }},
	{name: "credential_process", set: func(s *sourceTest) ([]string, []string) {
		s.rotateFile("process.json", processOutput)
		s.write("config", "[profile p]\ncredential_process = cat "+s.path("process.json")+"\n")
		return []string{"AWS_CONFIG_FILE=" + s.path("config"), "AWS_PROFILE=p"}, nil
	}, rotates: func(s *sourceTest) { s.rotateFile("process.json", processOutput) }},
	{name: "SSO session", set: func(s *sourceTest) ([]string, []string) {
		return s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
	}, asks: fakeaws.SSO},
	{name: "SSO session that is refreshed", set: func(s *sourceTest) ([]string, []string) {
		env, args := s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
		s.aws.AllowSSORefresh(ssoRefresh)
		s.writeLogin("corp", time.Now().Add(-time.Minute), fmt.Sprintf(`, "refreshToken": %q, "clientId": "client", "clientSecret": %q`, ssoRefresh, ssoClientSecret))
		return env, args
	}, asks: fakeaws.OIDC},
	{name: "SSO, legacy form", set: func(s *sourceTest) ([]string, []string) {
		return s.sso("sso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "", "https://corp.example/start")
	}, asks: fakeaws.SSO},
	{name: "assumed role", set: func(s *sourceTest) ([]string, []string) {
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, ExternalID: "x-1"})
		return s.janes(), []string{"--assume-role=" + appRole, "--external-id=x-1"}
	}, asks: fakeaws.STS},
	{name: "chain of assumed roles", set: func(s *sourceTest) ([]string, []string) {
		s.aws.AllowRole(fakeaws.Role{ARN: hubRole, Trusts: []string{janeUser}})
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{hubRole}, ExternalID: "x-1"})
		return s.janes(), []string{"--assume-role=" + hubRole + "," + appRole, "--external-id=x-1"}
	}, asks: fakeaws.STS},
	{name: "profile with a role", set: func(s *sourceTest) ([]string, []string) {
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, ExternalID: "x-1"})
		s.write("config", "[profile p]\nrole_arn = "+appRole+"\nsource_profile = base\nexternal_id = x-1\n[profile base]\n"+keys(jane))
		s.aws.AddKey(jane, janeUser)
		return []string{"AWS_CONFIG_FILE=" + s.path("config")}, []string{"--profile=p"}
	}, asks: fakeaws.STS},
	{name: "role on top of a profile's", set: func(s *sourceTest) ([]string, []string) {
		s.aws.AllowRole(fakeaws.Role{ARN: hubRole, Trusts: []string{janeUser}})
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{hubRole}})
		s.write("config", "[profile p]\nrole_arn = "+hubRole+"\nsource_profile = base\n[profile base]\n"+keys(jane))
		s.aws.AddKey(jane, janeUser)
		return []string{"AWS_CONFIG_FILE=" + s.path("config")}, []string{"--profile=p", "--assume-role=" + appRole}
	}, asks: fakeaws.STS},
	{name: "web identity", set: func(s *sourceTest) ([]string, []string) {
		token := newSecret("a web identity token")
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, WebIdentity: token})
		return []string{"AWS_ROLE_ARN=" + appRole, "AWS_WEB_IDENTITY_TOKEN_FILE=" + s.write("web-identity", token)}, nil
	}, rotates: func(s *sourceTest) { // as the kubelet does; the old one is invalid then
		token := newSecret("a web identity token")
		s.write("web-identity", token)
		s.aws.AllowRole(fakeaws.Role{ARN: appRole, WebIdentity: token})
	}, asks: fakeaws.STS},
	{name: "Pod Identity", set: func(s *sourceTest) ([]string, []string) {
		token := newSecret("an authorization token")
		s.aws.RequireAuthorization(token)
		return []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + s.aws.URL() + "/container/v1/credentials",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + s.write("pod-identity", token)}, nil
	}, rotates: func(s *sourceTest) {
		token := newSecret("an authorization token")
		s.write("pod-identity", token)
		s.aws.RequireAuthorization(token)
	}, asks: fakeaws.Container},
	{name: "container with an authorization token", set: func(s *sourceTest) ([]string, []string) {
		authorization := "Basic " + newSecret("an authorization token")
		s.aws.RequireAuthorization(authorization)
		return []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + s.aws.URL() + "/container/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN=" + authorization}, nil
	}, asks: fakeaws.Container},
	// The address 169.254.170.2 of ECS is reached through a web proxy.
	{name: "ECS task role", set: func(s *sourceTest) ([]string, []string) {
		return []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/abc", "HTTP_PROXY=" + s.aws.URL()}, nil
	}, asks: fakeaws.Container},
	{name: "EC2 instance", set: func(s *sourceTest) ([]string, []string) {
		return []string{"AWS_EC2_METADATA_DISABLED=false", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.aws.URL()}, nil
	}, asks: fakeaws.IMDS},
}

// sourceTest is a proxy with one source of credentials.
type sourceTest struct {
	t       *testing.T
	aws     *fakeaws.AWS
	cluster *aurora.Cluster
	dir     string

	mu     sync.Mutex
	issued []sigv4.Key
}

func newSourceTest(t *testing.T, cluster *aurora.Cluster) *sourceTest {
	t.Helper()
	s := &sourceTest{t: t, cluster: cluster, dir: t.TempDir()}
	s.aws = &fakeaws.AWS{Issued: s.note}
	if err := s.aws.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.aws.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// note lets a key log in.
func (s *sourceTest) note(key sigv4.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = append(s.issued, key)
	noteKey(key)
	s.cluster.AddKey(key)
}

// start runs the binary with a source and nothing else.
func (s *sourceTest) start(env, args []string) *process {
	s.t.Helper()
	env = append(bareEnvironment("AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts", "AWS_ENDPOINT_URL_SSO="+s.aws.URL()+"/sso", "AWS_ENDPOINT_URL_SSO_OIDC="+s.aws.URL()+"/oidc"), env...)
	return startProxy(s.t, env, clusterArgs(s.cluster, args...)...)
}

func (s *sourceTest) path(name string) string { return filepath.Join(s.dir, name) }

// write replaces a file atomically, and returns its path.
func (s *sourceTest) write(name, content string) string {
	s.t.Helper()
	path := s.path(name)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path+".new", []byte(content), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		s.t.Error(err)
	}
	return path
}

// rotateFile writes another key to a file, and expires the one before a little later.
func (s *sourceTest) rotateFile(name string, form func(sigv4.Key) string) {
	s.writeKey(name, shortLife, form)
}

// writeKey writes a new key with a lifetime to a file.
func (s *sourceTest) writeKey(name string, life time.Duration, form func(sigv4.Key) string) {
	s.mu.Lock()
	n := len(s.issued)
	s.mu.Unlock()
	key := sigv4.Key{
		AccessKeyID:     fmt.Sprintf("ASIA%d%X", n, filepath.Base(s.dir)+name),
		SecretAccessKey: fmt.Sprintf("a secret of forty characters or so: %d", n),
		SessionToken:    fmt.Sprintf("a session token that is long enough: %d", n),
		Expires:         time.Now().Add(life),
	}
	s.note(key)
	s.write(name, form(key))
}

func keys(key sigv4.Key) string {
	text := "aws_access_key_id = " + key.AccessKeyID + "\naws_secret_access_key = " + key.SecretAccessKey + "\n"
	if key.SessionToken != "" {
		text += "aws_session_token = " + key.SessionToken + "\n"
	}
	return text
}

// keysProfile is the form without an expiration.
func keysProfile(key sigv4.Key) string { return "[p]\n" + keys(key) }

func processOutput(key sigv4.Key) string {
	return fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q, "SessionToken": %q, "Expiration": %q}`,
		key.AccessKeyID, key.SecretAccessKey, key.SessionToken, key.Expires.UTC().Format(time.RFC3339))
}

// janes returns a profile with long-lived keys that may only assume roles.
func (s *sourceTest) janes() []string {
	s.aws.AddKey(jane, janeUser)
	return []string{"AWS_ACCESS_KEY_ID=" + jane.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + jane.SecretAccessKey}
}

// sso returns a profile, and writes what `aws sso login` writes.
func (s *sourceTest) sso(profile, more, cacheName string) (env, args []string) {
	s.aws.AllowSSO(ssoAccess, account, "Developer")
	s.write("config", "[profile dev]\nsso_account_id = "+account+"\nsso_role_name = Developer\n"+profile+more)
	s.loggedIn(cacheName, time.Now().Add(time.Hour))
	return []string{"HOME=" + s.dir, "AWS_CONFIG_FILE=" + s.path("config")}, []string{"--profile=dev"}
}

func (s *sourceTest) loggedIn(cacheName string, until time.Time) { s.writeLogin(cacheName, until, "") }

func (s *sourceTest) writeLogin(cacheName string, until time.Time, more string) {
	name := sha1.Sum([]byte(cacheName))
	s.write(filepath.Join(".aws", "sso", "cache", hex.EncodeToString(name[:])+".json"),
		fmt.Sprintf(`{"accessToken": %q, "expiresAt": %q%s}`, ssoAccess, until.UTC().Format(time.RFC3339), more))
}

// logIn connects once and returns the error.
func (p *process) logIn(user string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.conninfo(user, aurora.Database)+" sslmode=disable")
	keepError(p.t, err)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// logInFor connects every half second. Every login must succeed.
func (s *sourceTest) logInFor(p *process, d time.Duration, between func()) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		if err := p.logIn(aurora.IAMUser); err != nil {
			return err
		}
		if between != nil {
			between()
		}
	}
	return nil
}

// Each source is sufficient, and no login fails when its credentials are replaced.
func TestSources(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	var all sync.WaitGroup
	for _, source := range sources {
		s := newSourceTest(t, cluster)
		s.aws.SetLife(shortLife)
		p := s.start(source.set(s))
		all.Go(func() { source.use(s, p) })
	}
	all.Wait()
	for _, v := range cluster.Verdicts() {
		if !v.OK {
			t.Errorf("verdict %+v", v)
		}
	}
}

// use logs in for longer than the credentials live.
func (source source) use(s *sourceTest, p *process) {
	began := time.Now()
	rotated := began
	rotate := func() {
		if source.rotates != nil && time.Since(rotated) > shortLife/2 {
			rotated = time.Now()
			source.rotates(s)
		}
	}
	if err := s.logInFor(p, shortLife*5/4, rotate); err != nil {
		s.t.Errorf("%s: a login failed: %v", source.name, err)
	}
	// There is one fetch for two thirds of the credentials' life. A chain needs two
	// requests, and IMDS three. STS is also asked for the caller's identity.
	most := int(time.Since(began)/(shortLife*2/3)) + 2
	if source.asks != fakeaws.Container {
		most *= 3
	}
	least := 2
	if source.asks == fakeaws.OIDC { // for a token that is valid for two fetches
		least = 1
	}
	if n := s.aws.Requests(source.asks); source.asks != "" && (n < least || n > most) {
		s.t.Errorf("%s: %s was asked %d times, want %d to %d", source.name, source.asks, n, least, most)
	}
}
