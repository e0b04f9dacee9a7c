package ssm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	janeARN = "arn:aws:iam::111122223333:user/jane"
	bastion = "i-0123456789abcdef0"
)

// recorder is a gateway that records sessions.
type recorder struct {
	opened []fakeaws.Session
	ended  bool
}

func (g *recorder) Open(s fakeaws.Session) (streamURL, token string) {
	g.opened = append(g.opened, s)
	return "wss://gateway/" + s.ID, "token"
}

func (g *recorder) Resume(id string) (streamURL, token string) {
	if g.ended {
		return "", ""
	}
	return "wss://gateway/" + id, "another token"
}

func (g *recorder) Terminate(string) { g.ended = true }

// startClient starts a fake AWS whose user jane has no permissions, and returns a client of hers.
func startClient(t *testing.T) (*fakeaws.AWS, *recorder, *ssm.Client) {
	t.Helper()
	g := &recorder{}
	a := &fakeaws.AWS{Gateway: g}
	key := sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "jane's secret"}
	a.AddKey(key, janeARN)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(t.TempDir(), "credentials"),
		"AWS_ACCESS_KEY_ID": key.AccessKeyID, "AWS_SECRET_ACCESS_KEY": key.SecretAccessKey, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_SSM": a.URL() + "/ssm",
	} {
		t.Setenv(name, value)
	}
	identity := &auth.Identity{}
	if err := identity.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := identity.ConfigIn("eu-west-1")
	return a, g, &ssm.Client{Config: func(ctx context.Context) (aws.Config, error) {
		cfg, err := config(ctx)
		if client, ok := cfg.HTTPClient.(*http.Client); ok {
			t.Cleanup(client.CloseIdleConnections)
		}
		return cfg, err
	}}
}

func input(t *testing.T, target string) ssm.StartInput {
	t.Helper()
	parsed, err := ssm.ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	const host = "db.example.com"
	return ssm.StartInput{Target: parsed, Document: ssm.Document(host), Parameters: map[string][]string{"host": {host}, "portNumber": {"5432"}}}
}

func TestClient(t *testing.T) {
	a, g, client := startClient(t)
	a.AddNode(fakeaws.Node{ID: bastion})
	a.Allow(janeARN, "ssm:StartSession", "ssm:ResumeSession", "ssm:TerminateSession")
	s, err := client.StartSession(t.Context(), input(t, bastion))
	if want := (ssm.Session{ID: s.ID, Target: bastion, StreamURL: "wss://gateway/" + s.ID, Token: "token"}); err != nil || s != want {
		t.Fatalf("%#v, %v", s, err)
	}
	if want := (fakeaws.Session{ID: s.ID, Target: bastion, Document: "AWS-StartPortForwardingSessionToRemoteHost", Host: "db.example.com", Port: "5432"}); g.opened[0] != want {
		t.Errorf("%+v", g.opened)
	}
	if resumed, err := client.ResumeSession(t.Context(), s.ID); err != nil || resumed.ID != s.ID || resumed.Token != "another token" {
		t.Errorf("%#v, %v", resumed, err)
	}
	for range 2 {
		if err := client.TerminateSession(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{s.ID, "jane-gone"} {
		if resumed, err := client.ResumeSession(t.Context(), id); err != nil || resumed.Token != "" {
			t.Errorf("%s is resumed: %v", id, err)
		}
	}
	if err := client.TerminateSession(t.Context(), "jane-gone"); err != nil {
		t.Error(err)
	}
}

// A tag is looked up for each session, on all pages, and only nodes that are online count.
func TestClientTag(t *testing.T) {
	a, g, client := startClient(t)
	a.Allow(janeARN, "ssm:*")
	tags := map[string]string{"Name": "bastion"}
	for i := range 60 {
		a.AddNode(fakeaws.Node{ID: fmt.Sprintf("i-%04x", i), Tags: tags, Ping: "ConnectionLost"})
	}
	a.AddNode(fakeaws.Node{ID: "i-fff0", Tags: tags})
	a.AddNode(fakeaws.Node{ID: "i-fff1", Tags: map[string]string{"Name": "other"}})
	if s, err := client.StartSession(t.Context(), input(t, "tag:Name=bastion")); err != nil || s.Target != "i-fff0" {
		t.Errorf("%v, %v", s, err)
	}
	a.AddNode(fakeaws.Node{ID: "i-fff0", Tags: tags, Ping: "ConnectionLost"})
	a.AddNode(fakeaws.Node{ID: "i-fff2", Tags: tags})
	if s, err := client.StartSession(t.Context(), input(t, "tag:Name=bastion")); err != nil || s.Target != "i-fff2" || g.opened[1].Target != "i-fff2" {
		t.Errorf("after it was replaced: %v, %v", s, err)
	}
	a.AddNode(fakeaws.Node{ID: "i-fff0", Tags: tags})
	if _, err := client.StartSession(t.Context(), input(t, "tag:Name=bastion")); err == nil || !strings.Contains(err.Error(), "i-fff0") || !strings.Contains(err.Error(), "i-fff2") {
		t.Errorf("with two: %v", err)
	}
	if len(g.opened) != 2 {
		t.Errorf("%d sessions", len(g.opened))
	}
}

// A request that is not permitted is not repeated, and does not count as a rejection of the
// credentials. The error of the credentials' source is returned as it is.
func TestClientErrors(t *testing.T) {
	a, _, client := startClient(t)
	a.AddNode(fakeaws.Node{ID: bastion})
	rejections := 0
	client.Rejected = func() { rejections++ }
	for name, start := range map[string]string{"node": bastion, "tag": "tag:Name=bastion"} {
		before := a.Requests(fakeaws.SSM)
		if _, err := client.StartSession(t.Context(), input(t, start)); err == nil || a.Requests(fakeaws.SSM) != before+1 {
			t.Errorf("%s: %v after %d requests", name, err, a.Requests(fakeaws.SSM)-before)
		}
	}
	if rejections > 0 {
		t.Errorf("%d rejections without the permission", rejections)
	}
	valid := client.Config
	client.Config = func(ctx context.Context) (aws.Config, error) {
		config, err := valid(ctx)
		config.Credentials = credentials.NewStaticCredentialsProvider("AKIAUNKNOWN", "secret", "")
		return config, err
	}
	if _, err := client.StartSession(t.Context(), input(t, bastion)); err == nil || rejections != 1 {
		t.Errorf("unknown key: %v, %d rejections", err, rejections)
	}
	failure := errors.New("no credentials")
	client.Config = func(context.Context) (aws.Config, error) { return aws.Config{}, failure }
	if _, err := client.StartSession(t.Context(), input(t, bastion)); !errors.Is(err, failure) {
		t.Error(err)
	}
}
