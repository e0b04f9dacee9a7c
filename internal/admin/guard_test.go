package admin

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// withLocalAddr returns r as received at an address.
func withLocalAddr(r *http.Request, address string) *http.Request {
	local := &net.TCPAddr{IP: net.ParseIP(address), Port: 9090}
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
}

func TestShutdown(t *testing.T) {
	for name, test := range map[string]struct {
		method, from string
		header       map[string]string
		status       int
		to           string // empty: 127.0.0.1
	}{
		"from this host":                 {"POST", "127.0.0.1:40000", nil, 202, ""},
		"from this host, IPv6":           {"POST", "[::1]:40000", nil, 202, ""},
		"from this host, mapped":         {"POST", "[::ffff:127.0.0.1]:40000", nil, 202, ""},
		"from another host":              {"POST", "10.0.0.7:40000", nil, 403, ""},
		"from another host, IPv6":        {"POST", "[2001:db8::1]:40000", nil, 403, ""},
		"forwarded to the pod's address": {"POST", "127.0.0.6:40000", nil, 403, "10.0.0.8"},
		"from an unknown address":        {"POST", "@", nil, 403, ""},
		"GET":                            {"GET", "127.0.0.1:40000", nil, 405, ""},
		"by a page of the same origin":   {"POST", "127.0.0.1:40000", map[string]string{"Sec-Fetch-Site": "same-origin"}, 202, ""},
		"by a cross-site page":           {"POST", "127.0.0.1:40000", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, ""},
		"by a same-site page":            {"POST", "127.0.0.1:40000", map[string]string{"Sec-Fetch-Site": "same-site"}, 403, ""},
		"by a page in an old browser":    {"POST", "127.0.0.1:40000", map[string]string{"Origin": "https://evil.example"}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			drains := 0
			s := &Server{Shutdown: func() { drains++ }}
			r := httptest.NewRequest(test.method, "http://localhost:9090/shutdown", nil)
			r.RemoteAddr = test.from
			r = withLocalAddr(r, cmp.Or(test.to, "127.0.0.1"))
			for key, value := range test.header {
				r.Header.Set(key, value)
			}
			got := httptest.NewRecorder()
			s.Handler().ServeHTTP(got, r)
			if got.Code != test.status || strings.Count(got.Body.String(), "\n") != 1 {
				t.Errorf("got %d, want %d: %q", got.Code, test.status, got.Body)
			}
			if drained := drains == 1; drained != (test.status == http.StatusAccepted) {
				t.Errorf("drained %d times", drains)
			}
		})
	}
	r := httptest.NewRequest(http.MethodPost, "http://localhost/shutdown", nil)
	r.RemoteAddr = "127.0.0.1:40000"
	got := httptest.NewRecorder()
	(&Server{}).Handler().ServeHTTP(got, r)
	if got.Code == http.StatusAccepted {
		t.Error("/shutdown is served without Shutdown")
	}
}

func TestHostOnLoopback(t *testing.T) {
	url := serve(t, &Server{})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	for host, want := range map[string]int{
		"localhost": 200, "localhost:" + port: 200, "LocalHost:9090": 200, "127.0.0.1": 200, "127.0.0.1:" + port: 200, "127.8.9.10:1": 200,
		"[::1]": 200, "[::1]:9090": 200, "[::ffff:127.0.0.1]:80": 200,
		"evil.example": 421, "evil.example:" + port: 421, "10.0.0.1": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:80": 421,
		"0.0.0.0:" + port: 421,
	} {
		for _, path := range []string{"/livez", "/metrics", "/", "/nothing"} {
			r, err := http.NewRequest(http.MethodGet, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			got, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(got.Body)
			got.Body.Close()
			want := want
			if path == "/nothing" && want == http.StatusOK {
				want = http.StatusNotFound
			}
			if got.StatusCode != want {
				t.Errorf("%s of %s: %d (%.80q), want %d", path, host, got.StatusCode, body, want)
			}
		}
	}
}

// The status page requires a name that no web page can have. Programs may use any name.
func TestHostElsewhere(t *testing.T) {
	for host, want := range map[string]int{
		"10.0.0.7:9090": 200, "[fd00::7]:9090": 200, "fd00::7": 200, "iamproxy": 200, "iamproxy:9090": 200, "localhost:9090": 200,
		"iamproxy.orders.svc:9090": 200, "iamproxy.orders.svc.cluster.local:9090": 200, "IAMPROXY.Example.INTERNAL.": 200,
		"evil.example:9090": 421, "evil.example.": 421, "EVIL.EXAMPLE": 421, "10.0.0.7.evil.example": 421, "10-0-0-7.evil.example:9090": 421,
		"0x7f.1": 421, "127.1": 421, "2130706433.": 200, // names that no DNS resolves
		"local.evil": 421, "internal.evil:1": 421, "": 200,
	} {
		for path, want := range map[string]int{"/": want, "/livez": 200, "/readyz": 200, "/metrics": 200} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			got := httptest.NewRecorder()
			signs := Endpoint{Name: "db:5432", Database: &fakeDatabase{}, Signer: &fakeSigner{}, Tokens: &fakeTokens{}}
			(&Server{Endpoints: []Endpoint{signs}, PageOnAdmin: true}).Handler().ServeHTTP(got, withLocalAddr(r, "10.0.0.7"))
			if got.Code != want {
				t.Errorf("%s of %q: %d, want %d: %.80q", path, host, got.Code, want, got.Body)
			}
		}
	}
}

// A rejected request gets the URL to open instead, with the port of a port forward if there is
// one.
func TestRejectedHost(t *testing.T) {
	for _, test := range []struct{ local, host, want string }{
		{"127.0.0.1", "evil.example", "open http://localhost:9090/ instead"},
		{"127.0.0.1", "evil.example:8080", "open http://localhost:8080/ instead"},
		{"127.0.0.1", "evil.example:<b>", "open http://localhost:9090/ instead"},
		{"::1", "evil.example:", "open http://localhost:9090/ instead"},
		{"10.0.0.7", "evil.example:9090", "open http://10.0.0.7:9090/ instead"},
		{"fd00::7", "evil.example", "open http://[fd00::7]:9090/ instead"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = test.host
		got := httptest.NewRecorder()
		(&Server{PageOnAdmin: true}).Handler().ServeHTTP(got, withLocalAddr(r, test.local))
		if want := test.want + ": this page is not served under other host names (protection against DNS rebinding)\n"; got.Code != 421 || got.Body.String() != want {
			t.Errorf("%s at %s: got %d %q, want %q", test.host, test.local, got.Code, got.Body, want)
		}
	}
}

func TestProfilesRequireLoopback(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace", "/debug/pprof/symbol"} {
			for from, to := range map[string]string{"10.0.0.9:4000": "10.0.0.7", "127.0.0.1:4000": "10.0.0.7", "10.0.0.9:4001": "127.0.0.1"} {
				r := httptest.NewRequest(method, path, nil)
				r.Host, r.RemoteAddr = to, from
				got := httptest.NewRecorder()
				(&Server{Pprof: true}).Handler().ServeHTTP(got, withLocalAddr(r, to))
				if got.Code != http.StatusForbidden && got.Code != http.StatusMethodNotAllowed {
					t.Errorf("%s %s from %s to %s: %d", method, path, from, to, got.Code)
				}
			}
		}
	}
}

func TestProfiles(t *testing.T) {
	paths := map[string]bool{
		"/debug/pprof/": true, "/debug/pprof/heap": true, "/debug/pprof/goroutine?debug=2": true, "/debug/pprof/symbol": true,
		"/debug/pprof/trace?seconds=0.01": true, "/debug/pprof/profile?seconds=1": true,
		"/debug/pprof/cmdline": false, "/debug/pprof/nothing": false,
	}
	for path, there := range paths {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprint(path, " ", on), func(t *testing.T) {
				t.Parallel()
				want := http.StatusNotFound
				if there && on {
					want = http.StatusOK
				}
				if got := get(&Server{Pprof: on}, path); got.Code != want {
					t.Errorf("got %d: %.100s", got.Code, got.Body)
				}
			})
		}
	}
}
