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
	"github.com/iamproxy/iamproxy/internal/age/agetest"
)

func failing(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

var (
	errSSO = &auth.Error{Message: "no AWS credentials: the SSO session\nhas expired", Hint: "Run: aws sso login"}

	errRejected = &auth.Error{Message: "AWS rejects the credentials from the environment: ExpiredToken", Hint: "Get new ones."}
	yes         = func() bool { return true }
	no          = func() bool { return false }
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
	const notDraining, credentials = "ok  not draining\n", "credentials of " + clusterName + " (on 127.0.0.1:5432): "
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
		"credentials rejected": {
			&Server{Endpoints: with(&fakeSigner{status: auth.IdentityStatus{Source: "the environment", Rejected: errRejected}}, nil)}, "/readyz", 200,
			"ready\n" + notDraining + "warning  " + credentials + "AWS rejects the credentials from the environment: ExpiredToken. Get new ones.\n",
		},
		"draining": {
			&Server{Draining: yes}, "/readyz", 503,
			"not ready\nnot ready  draining: no new clients; the process exits when its last session has ended\n",
		},
		"no credentials": {
			&Server{Endpoints: with(loggedOut, nil)}, "/readyz", 503,
			"not ready\n" + notDraining + "not ready  " + credentials + "no AWS credentials: the SSO session has expired. Run: aws sso login\n",
		},
		"database reachable": {
			&Server{Endpoints: with(permanent, nil)}, "/readyz?upstream", 200,
			"ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nok  database " + clusterName + " (on 127.0.0.1:5432): answers, and its certificate is trusted\n",
		},
		"database unreachable": {
			&Server{Endpoints: with(permanent, down)}, "/readyz?upstream=1", 503,
			"not ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nnot ready  database " + clusterName + " (on 127.0.0.1:5432): cannot reach it\n",
		},
		"database unreachable, with a hint": {
			&Server{Endpoints: with(permanent, failing(errSSO))}, "/readyz?upstream=", 503,
			"not ready\n" + notDraining + "ok  " + credentials + "the shared credentials file\nnot ready  database " + clusterName +
				" (on 127.0.0.1:5432): no AWS credentials: the SSO session has expired. Run: aws sso login\n",
		},

		"started": {
			&Server{Endpoints: with(permanent, down)}, "/startupz", 200,
			"started\nok  " + credentials + "the shared credentials file\n",
		},
		"not started": {
			&Server{Endpoints: with(loggedOut, nil)}, "/startupz", 503,
			"not started\nnot ready  " + credentials + "no AWS credentials: the SSO session has expired. Run: aws sso login\n",
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

// Where there is no status page, other hosts may read health and metrics. They contain no roles
// and no clients.
func TestHealthAndMetricsWithoutPage(t *testing.T) {
	e := busy(time.Now())
	denied := &auth.Error{
		Message: "no AWS credentials: User: arn:aws:sts::111122223333:assumed-role/task/1 may not assume arn:aws-us-gov:iam::111122223333:role/orders-database",
		Hint:    `See the trust policy of "arn:aws:iam::111122223333:role/orders-database".`,
	}
	d := e.Database.(*fakeDatabase)
	d.probe = failing(denied)
	for name, signer := range map[string]*fakeSigner{"ready": e.Signer.(*fakeSigner), "denied": {ready: failing(denied)}} {
		e.Signer = signer
		s := &Server{Endpoints: []Endpoint{e}}
		for _, path := range []string{"/readyz", "/readyz?upstream", "/startupz", "/livez", "/metrics"} {
			body := getFrom(s.Handler(), path).Body.String()
			for _, secret := range []string{"arn:", "111122223333", "orders-database", d.sessions[0].Client, "127.0.0.1:40"} {
				if strings.Contains(body, secret) {
					t.Errorf("%s, %s: has %q:\n%s", name, path, secret, body)
				}
			}
		}
		if body := getFrom(s.PageHandler(), "/readyz").Body.String(); !strings.Contains(body, "arn:aws") {
			t.Errorf("%s: the listener of the page omits the ARNs: %s", name, body)
		}
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
		name, listen string
		signer       *fakeSigner
	}{{"a:5432", ":1", shared}, {"b:5432", ":2", own}, {"a:5432", ":3", shared}} {
		one := endpoint()
		one.Name, one.Listen, one.Signer = e.name, e.listen, e.signer
		endpoints = append(endpoints, one)
	}
	got := get(&Server{Endpoints: endpoints}, "/readyz").Body.String()
	if want := "ready\nok  not draining\nok  credentials of a:5432 (on :1), a:5432 (on :3): available\nok  credentials of b:5432 (on :2): available\n"; got != want {
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
		s := &Server{Endpoints: []Endpoint{e}, PageOnAdmin: true}
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

// A probe of before a suspension of the machine is not shared with a request after it.
func TestProbeAfterSuspension(t *testing.T) {
	probes := 0
	e := endpoint()
	e.Database = &fakeDatabase{probe: func(context.Context) error { probes++; return nil }}
	s := &Server{Endpoints: []Endpoint{e}}
	get(s, "/readyz?upstream")
	s.lastProbes.Range(func(key, value any) bool {
		last := value.(probeResult)
		agetest.Suspend(&last.at, time.Hour)
		s.lastProbes.Store(key, last)
		return true
	})
	get(s, "/readyz?upstream")
	if probes != 2 {
		t.Errorf("%d probes, want 2", probes)
	}
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
