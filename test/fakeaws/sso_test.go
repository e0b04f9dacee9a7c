package fakeaws_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

const ssoARN = "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Reader_0123456789abcdef/user"

// login writes what `aws sso login` writes, with "access" for the access token.
func login(t *testing.T, refreshToken string, expires time.Time) (path string) {
	t.Helper()
	writeConfig(t, "[default]", "sso_session=corp", "sso_account_id=111122223333", "sso_role_name=Reader",
		"[sso-session corp]", "sso_region="+region, "sso_start_url=https://corp.example/start")
	content, err := json.Marshal(map[string]string{
		"accessToken": "access", "expiresAt": expires.UTC().Format(time.RFC3339),
		"refreshToken": refreshToken, "clientId": "client", "clientSecret": "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	name := sha1.Sum([]byte("corp"))
	path = filepath.Join(os.Getenv("HOME"), ".aws", "sso", "cache", hex.EncodeToString(name[:])+".json")
	write(t, path, string(content))
	return path
}

func TestSSO(t *testing.T) {
	a, keys := start(t)
	a.AllowSSO("access", "111122223333", "Reader")
	login(t, "", time.Now().Add(time.Hour))
	got, err := retrieve(t)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, time.Hour, ssoARN)
	a.SetLife(5 * time.Minute)
	if got, err = retrieve(t); err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 5*time.Minute, ssoARN)

	a.AllowSSO("access", "111122223333", "Writer")
	_, err = retrieve(t, once)
	expectRefusal(t, err, 403, "ForbiddenException")
	a.AllowSSO("next", "111122223333", "Reader")
	_, err = retrieve(t, once)
	expectRefusal(t, err, 401, "UnauthorizedException")
	if n := a.Requests(fakeaws.SSO); n != 4 || a.Requests(fakeaws.OIDC) != 0 {
		t.Errorf("%d requests, %d to OIDC", n, a.Requests(fakeaws.OIDC))
	}
}

func TestSSORefresh(t *testing.T) {
	a, keys := start(t)
	a.AllowSSO("access", "111122223333", "Reader")
	a.AllowSSORefresh("refresh")
	a.SetLife(10 * time.Minute)
	file := login(t, "refresh", time.Now().Add(-time.Hour))
	got, err := retrieve(t)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 10*time.Minute, ssoARN)

	var cached struct {
		AccessToken, RefreshToken string
		ExpiresAt                 time.Time
	}
	content, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(content, &cached) != nil {
		t.Fatalf("%v: %s", err, content)
	}
	if left := time.Until(cached.ExpiresAt); left > 10*time.Minute || left < 9*time.Minute {
		t.Errorf("the access token expires in %v", left)
	}
	if cached.AccessToken == "access" || cached.RefreshToken == "refresh" {
		t.Errorf("cached: %+v", cached)
	}
	// The former access token is invalid, and the new one is valid.
	if status, _ := do(t, "GET", a.URL()+"/sso/federation/credentials?role_name=Reader&account_id=111122223333",
		map[string]string{"x-amz-sso_bearer_token": "access"}); status != 401 {
		t.Errorf("the access token of before: %d", status)
	}
	if _, err := retrieve(t); err != nil || a.Requests(fakeaws.OIDC) != 1 {
		t.Errorf("%v, %d requests to OIDC", err, a.Requests(fakeaws.OIDC))
	}

	login(t, "other", time.Now().Add(-time.Hour))
	_, err = retrieve(t, once)
	expectRefusal(t, err, 400, "InvalidGrantException")
	a.AllowSSORefresh("")
	login(t, "refresh", time.Now().Add(-time.Hour))
	_, err = retrieve(t, once)
	expectRefusal(t, err, 400, "InvalidGrantException")
}
