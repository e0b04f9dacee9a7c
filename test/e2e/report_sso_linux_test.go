package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// An SSO login that cannot be written to its file when it is renewed is kept in memory. A
// refresh token is used once.
func TestReportSSOReadOnly(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.SetLife(6 * time.Second) // of keys and of the renewed login
	// The file that replaces the one of the login has a name that is too long, even for root.
	const longest, file = 4095 - len(".new"), len("/.aws/sso/cache/") + 40 + len(".json")
	for s.dir += "/"; len(s.dir) < longest-file; {
		s.dir += "d"
		if len(s.dir)%200 == 0 && len(s.dir) < longest-file-1 {
			s.dir += "/"
		}
	}
	env, args := s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
	s.aws.AllowSSORefresh(ssoRefresh)
	s.writeLogin("corp", time.Now().Add(-time.Minute), fmt.Sprintf(`, "refreshToken": %q, "clientId": "client", "clientSecret": %q`, ssoRefresh, ssoClientSecret))
	p := s.start(env, args)
	if err := s.logInFor(p, 10*time.Second, nil); err != nil {
		t.Errorf("a login failed: %v", err)
	}
	if n := strings.Count(p.logs(), "the login was renewed, but could not be written to its file"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// A login whose file cannot be read is not a login that has expired.
func TestReportSSOFileUnreadable(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, startCluster(t, &aurora.Cluster{}))
	env, args := s.sso("sso_session = corp\n", "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", "corp")
	files, err := filepath.Glob(s.path(".aws/sso/cache/*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(files[0], 0o700); err != nil { // root may read any file
		t.Fatal(err)
	}
	refused := s.start(env, args).refused(aurora.IAMUser, aurora.Database)
	if !strings.Contains(refused.Message, "could not read \""+files[0]+"\": is a directory") || strings.Contains(refused.Hint, "aws sso login") {
		t.Errorf("%s, hint %q", refused.Message, refused.Hint)
	}
}
