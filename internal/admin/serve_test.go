package admin

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// The client of POST /shutdown gets its response even if the server stops at once.
func TestShutdownResponse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var stop func()
	stopped := make(chan struct{})
	server := &Server{Draining: func() bool { return true }, Shutdown: func() {
		go func() {
			defer close(stopped)
			stop()
		}()
		for { // until the listener is closed
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			conn.Close()
		}
	}}
	stop = server.Serve(listener, nil, 128, zap.NewNop())
	if answer, err := (Client{Address: listener.Addr().String()}).Shutdown(t.Context()); err != nil || answer != "draining, 0 sessions open" {
		t.Errorf("answer %q, %v", answer, err)
	}
	<-stopped
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]string{"": "127.0.0.1:9090", "off": "", "9091": "127.0.0.1:9091", ":9091": ":9091", "[::1]:0": "[::1]:0"} {
		if got, err := ParseAddress(text); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for _, test := range []struct{ status, admin, want, err string }{
		{"", "127.0.0.1:9090", "", ""},
		{"off", "127.0.0.1:9090", "", ""},
		{"127.0.0.1:9091", "0.0.0.0:9090", "127.0.0.1:9091", ""},
		{"127.0.0.1:9091", "", "127.0.0.1:9091", ""},
		{"localhost:9090", "127.0.0.1:9090", "127.0.0.1:9090", ""},
		{":9090", "0.0.0.0:9090", "0.0.0.0:9090", ""},
		{"[::]:9090", "0.0.0.0:9090", "0.0.0.0:9090", ""},
		{"[::1]:9090", "127.0.0.1:9090", "[::1]:9090", ""},
		{"127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0", ""},
		{"127.0.0.1:9090", "0.0.0.0:9090", "", "uses the same port"},
		{":9090", "127.0.0.1:9090", "", "uses the same port"},
		{"9091", "127.0.0.1:9090", "127.0.0.1:9091", ""},
		{"9090", "127.0.0.1:9090", "127.0.0.1:9090", ""},
		{"70000", "127.0.0.1:9090", "", `--status 70000: "70000" is not a port`},
		{"127.0.0.1", "127.0.0.1:9090", "", "--status 127.0.0.1: neither HOST:PORT nor off"},
		{"127.0.0.1:http", "", "", `--status 127.0.0.1:http: "http" is not a port`},
		{"unix:/run/status", "", "", `"/run/status" is not a port`},
		{"db.example.com:9091", "", "", `"db.example.com" is neither localhost nor an address`},
	} {
		got, err := ParseStatus(test.status, test.admin)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s, admin %s: got %q, %v, want %q, %s", test.status, test.admin, got, err, test.want, test.err)
		}
	}
}

// The page and health have separate listeners, and only that of health has /shutdown.
func TestServeStatus(t *testing.T) {
	open := func() net.Listener {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return listener
	}
	admin, status := open(), open()
	server := &Server{Shutdown: func() { t.Error("shut down") }, Pprof: true}
	stop := server.Serve(admin, status, 128, zap.NewNop())
	for url, want := range map[string]int{
		urlOf(admin): 404, urlOf(admin) + "livez": 200, urlOf(admin) + "metrics": 200,
		urlOf(status): 200, urlOf(status) + "readyz": 200, urlOf(status) + "metrics": 200, urlOf(status) + "debug/pprof/": 404,
	} {
		if got, body := request(t, http.MethodGet, url); got != want || url == urlOf(admin) && !strings.Contains(body, urlOf(status)) {
			t.Errorf("%s: got %d, want %d: %.200s", url, got, want, body)
		}
	}
	if got, _ := request(t, http.MethodPost, urlOf(status)+"shutdown"); got != http.StatusNotFound {
		t.Errorf("POST /shutdown of the status page: %d", got)
	}
	stop()
	if _, err := net.Dial("tcp", status.Addr().String()); err == nil {
		t.Error("the status page is served after stop")
	}
}

func request(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}
