package fakeaws_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// TestPodIdentity uses the configuration of EKS.
func TestPodIdentity(t *testing.T) {
	a, keys := start(t)
	a.RequireAuthorization("token")
	a.SetLife(6 * time.Hour)
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", a.URL()+"/container/v1/credentials")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file)
	write(t, file, "token")
	got, err := retrieve(t)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, 6*time.Hour, fakeaws.ContainerARN)
	write(t, file, "other")
	_, err = retrieve(t, once)
	expectRefusal(t, err, 401, "Unauthorized")
	a.RequireAuthorization("")
	if _, err := retrieve(t); err != nil {
		t.Error(err)
	}
	if n := a.Requests(fakeaws.Container); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestTaskRole uses the configuration of ECS, with a fixed address.
func TestTaskRole(t *testing.T) {
	a, keys := start(t)
	proxy, err := url.Parse(a.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer transport.CloseIdleConnections()
	// HTTP_PROXY would do the same, but a process reads it once.
	through := config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = &http.Client{Transport: transport} })
	t.Setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/5275a487")
	got, err := retrieve(t, through)
	if err != nil {
		t.Fatal(err)
	}
	expectKey(t, keys, got, time.Hour, fakeaws.ContainerARN)
	if n := a.Requests(fakeaws.Container); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
