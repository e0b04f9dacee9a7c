package fakeaws_test

import (
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

func TestIMDS(t *testing.T) {
	a, keys := start(t)
	got, err := retrieve(t)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, time.Hour, fakeaws.IMDSARN)
	a.SetLife(20 * time.Minute)
	if got, err = retrieve(t); err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 20*time.Minute, fakeaws.IMDSARN)
	// A token, the role and the key, each time.
	if n := a.Requests(fakeaws.IMDS); n != 6 {
		t.Errorf("%d requests, want 6", n)
	}
}

func TestIMDSSession(t *testing.T) {
	a, keys := start(t)
	const ttl, token = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
	session := func(seconds string) (int, string) {
		return do(t, "PUT", a.URL()+"/latest/api/token", map[string]string{ttl: seconds})
	}
	for _, seconds := range []string{"", "x", "0", "21601"} {
		if status, _ := session(seconds); status != 400 {
			t.Errorf("%q seconds: %d", seconds, status)
		}
	}
	status, good := session("21600")
	if status != 200 || good == "" {
		t.Fatalf("%d, %q", status, good)
	}
	roles := a.URL() + "/latest/meta-data/iam/security-credentials/"
	for value, want := range map[string]int{"": 401, "other": 401, good: 200} {
		if status, _ := do(t, "GET", roles, map[string]string{token: value}); status != want {
			t.Errorf("token %q: %d, want %d", value, status, want)
		}
	}
	header := map[string]string{token: good}
	if status, _ := do(t, "GET", roles+"other", header); status != 404 {
		t.Errorf("another role: %d", status)
	}
	if status, _ := do(t, "GET", a.URL()+"/latest/api/token", header); status != 405 {
		t.Errorf("GET a token: %d", status)
	}
	if len(keys.all()) != 0 {
		t.Error("a key was issued")
	}
	if status, body := do(t, "GET", roles+"instance", header); status != 200 || !strings.Contains(body, `"Code":"Success"`) {
		t.Errorf("%d: %s", status, body)
	}
}
