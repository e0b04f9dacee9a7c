package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iamproxy/iamproxy/auth"
)

func failing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

var (
	errSSO = &auth.Error{Message: "no AWS credentials: the SSO session\nhas expired", Hint: "run: aws sso login"}
	yes    = func() bool { return true }
	no     = func() bool { return false }
)

func TestHealth(t *testing.T) {
	signing := &fakeSigner{status: auth.IdentityStatus{Source: "environment variables", Expires: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}}
	permanent := &fakeSigner{status: auth.IdentityStatus{Source: "the shared credentials file"}}
	loggedOut := &fakeSigner{ready: failing(errSSO)}
	with := func(signer Signer, probe func(context.Context) error) []Endpoint {
		e := endpoint()
		e.Signer, e.Database = signer, &fakeDatabase{probe: probe}
		return []Endpoint{e}
	}
	const notDraining, credentials = "ok  not draining\n", "credentials of " + clusterName + ": "
	down := failing(errors.New("cannot reach it"))
	for name, test := range map[string]struct {
		server *Server
		path   string
		status int
		body   string
	}{
		"live": {&Server{Draining: yes, Endpoints: with(loggedOut, down)}, "/livez", 200, "ok\n"},

		"ready": {
			&Server{Draining: no, Endpoints: with(signing, down)}, "/readyz", 200,
			"ready\n" + notDraining + "ok  " + credentials + "environment variables, valid until 2026-05-01T12:00:00Z\n",
		},
		"credentials without expiry": {
			&Server{Endpoints: with(permanent, nil)}, "/readyz", 200,
			"ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\n",
		},
		"draining": {
			&Server{Draining: yes}, "/readyz", 503,
			"not ready\nnot ready  draining: it ends when its last session has ended; connect to another\n",
		},
		"no credentials": {
			&Server{Endpoints: with(loggedOut, nil)}, "/readyz", 503,
			"not ready\n" + notDraining + "not ready  " + credentials + "no AWS credentials: the SSO session has expired; run: aws sso login\n",
		},
		"database reachable": {
			&Server{Endpoints: with(permanent, nil)}, "/readyz?upstream", 200,
			"ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nok  database " + clusterName + ": answers, with a certificate that is trusted\n",
		},
		"database unreachable": {
			&Server{Endpoints: with(permanent, down)}, "/readyz?upstream=1", 503,
			"not ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nnot ready  database " + clusterName + ": cannot reach it\n",
		},
		"database unreachable, with a hint": {
			&Server{Endpoints: with(permanent, failing(errSSO))}, "/readyz?upstream=", 503,
			"not ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nnot ready  database " + clusterName +
				": no AWS credentials: the SSO session has expired; run: aws sso login\n",
		},

		"started": {
			&Server{Endpoints: with(permanent, down)}, "/startupz", 200,
			"started\nok  " + credentials + "the shared credentials file\n",
		},
		"not started": {
			&Server{Endpoints: with(loggedOut, nil)}, "/startupz", 503,
			"not started\nnot ready  " + credentials + "no AWS credentials: the SSO session has expired; run: aws sso login\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := get(test.server, test.path)
			if got.Code != test.status || got.Body.String() != test.body {
				t.Errorf("got %d\n%s\nwant %d\n%s", got.Code, got.Body, test.status, test.body)
			}
			h := got.Header()
			if h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != "no-store" || h.Get("Server") != "iamproxy" {
				t.Errorf("headers: %v", h)
			}
		})
	}
}

// A startup probe that succeeded once succeeds ever after.
func TestStartupzStaysStarted(t *testing.T) {
	e, signer := endpoint(), &fakeSigner{}
	e.Signer = signer
	s := &Server{Endpoints: []Endpoint{e}}
	if got := get(s, "/startupz"); got.Code != http.StatusOK {
		t.Fatalf("got %d: %s", got.Code, got.Body)
	}
	signer.ready = failing(errSSO)
	if got := get(s, "/startupz"); got.Code != http.StatusOK || got.Body.String() != "started\n" {
		t.Errorf("later: got %d: %s", got.Code, got.Body)
	}
}

func TestSharedSignerIsCheckedOnce(t *testing.T) {
	shared, own := &fakeSigner{}, &fakeSigner{}
	var endpoints []Endpoint
	for _, e := range []struct {
		name   string
		signer *fakeSigner
	}{{"a:5432", shared}, {"b:5432", own}, {"c:5432", shared}} {
		one := endpoint()
		one.Name, one.Signer = e.name, e.signer
		endpoints = append(endpoints, one)
	}
	got := get(&Server{Endpoints: endpoints}, "/readyz").Body.String()
	if want := "ready\nok  not draining\nok  credentials of a:5432, c:5432: at hand\nok  credentials of b:5432: at hand\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if shared.checks.Load() != 1 || own.checks.Load() != 1 {
		t.Errorf("%d and %d checks, want 1 each", shared.checks.Load(), own.checks.Load())
	}
}

func TestHealthTimeouts(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for path, timeout := range map[string]time.Duration{"/readyz": signTimeout, "/readyz?upstream": signTimeout + probeTimeout, "/startupz": signTimeout} {
		synctest.Test(t, func(t *testing.T) {
			var endpoints []Endpoint
			for range 3 {
				e := endpoint()
				e.Signer, e.Database = &fakeSigner{ready: hang}, &fakeDatabase{probe: hang}
				endpoints = append(endpoints, e)
			}
			began := time.Now()
			got := get(&Server{Endpoints: endpoints}, path)
			if took := time.Since(began); got.Code != http.StatusServiceUnavailable || took != timeout {
				t.Errorf("%s: %d after %s: %s", path, got.Code, took, got.Body)
			}
		})
	}
}

func TestConcurrentRequestsShareProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		probes := 0
		e := endpoint()
		e.Database = &fakeDatabase{probe: func(context.Context) error {
			mu.Lock()
			probes++
			mu.Unlock()
			time.Sleep(time.Second)
			return nil
		}}
		s := &Server{Endpoints: []Endpoint{e}}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if got := get(s, "/readyz?upstream"); got.Code != http.StatusOK {
					t.Errorf("got %d: %s", got.Code, got.Body)
				}
			})
		}
		all.Wait()
		if probes != 1 {
			t.Errorf("%d probes, want 1", probes)
		}
	})
}

func TestMethods(t *testing.T) {
	url := serve(t, &Server{Endpoints: []Endpoint{endpoint()}})
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/metrics", "/"} {
		head, err := http.Head(url + path)
		if err != nil {
			t.Fatal(err)
		}
		head.Body.Close()
		posted, err := http.Post(url+path, "text/plain", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		posted.Body.Close()
		if head.StatusCode != http.StatusOK || posted.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: HEAD %d, POST %d", path, head.StatusCode, posted.StatusCode)
		}
	}
	if got := get(&Server{}, "/readyz/"); got.Code != http.StatusNotFound {
		t.Errorf("unknown path: %d", got.Code)
	}
}
