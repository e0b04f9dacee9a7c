package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// api is a double of the Extensions API. It records requests, and fails the test for one that the
// documentation of the API does not allow.
type api struct {
	t        *testing.T
	refuse   string        // path of a request that fails
	waiting  chan struct{} // receives an element when the extension waits for the next event
	shutdown chan struct{} // closed for the SHUTDOWN event
	invoke   bool          // an unknown event comes first

	mu    sync.Mutex
	calls []string
}

const identifier = "5bd2d2a1-c9f5-4a93-9b6e-8b9a6c1f6a0e"

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, "/2020-01-01/extension/")
	var body struct {
		Events       []string `json:"events"`
		ErrorMessage string   `json:"errorMessage"`
		ErrorType    string   `json:"errorType"`
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			a.t.Errorf("%s: %v", path, err)
		}
	}
	switch {
	case !ok || path == a.refuse:
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errorType":"Extension.InvalidState","errorMessage":"not now"}`))
		return
	case path == "register":
		if r.Header.Get("Lambda-Extension-Name") != "iamproxy" || !slices.Equal(body.Events, []string{"SHUTDOWN"}) {
			a.t.Errorf("registered %q for %q", r.Header.Get("Lambda-Extension-Name"), body.Events)
		}
		a.record("register")
		w.Header().Set("Lambda-Extension-Identifier", identifier)
		_, _ = w.Write([]byte(`{"functionName":"f","functionVersion":"$LATEST","handler":"index.handler"}`))
		return
	case r.Header.Get("Lambda-Extension-Identifier") != identifier:
		a.t.Errorf("%s: identifier %q", path, r.Header.Get("Lambda-Extension-Identifier"))
	case path == "event/next":
		a.record("next")
		if a.takeInvoke() {
			_, _ = w.Write([]byte(`{"eventType":"INVOKE"}`))
			return
		}
		a.waiting <- struct{}{}
		select {
		case <-a.shutdown:
			_, _ = w.Write([]byte(`{"eventType":"SHUTDOWN","shutdownReason":"spindown","deadlineMs":676051}`))
		case <-r.Context().Done():
		}
		return
	}
	if r.Header.Get("Lambda-Extension-Function-Error-Type") != body.ErrorType {
		a.t.Errorf("%s: %q in the header, and %q", path, r.Header.Get("Lambda-Extension-Function-Error-Type"), body.ErrorType)
	}
	a.record(path + " " + body.ErrorType + ": " + body.ErrorMessage)
	w.WriteHeader(http.StatusAccepted)
	_, _ = w.Write([]byte(`{"status":"OK"}`))
}

func (a *api) record(call string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
}

func (a *api) takeInvoke() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.invoke
	a.invoke = false
	return was
}

// run runs serve as an extension, and returns the requests to the API and the error.
func (a *api) run(t *testing.T, serve Serve) (calls string, err error) {
	t.Helper()
	a.t = t
	server := httptest.NewServer(a)
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // of the function's own requests
	e := Detect([]string{"/opt/extensions/iamproxy"}, "", func(string) string { return server.Listener.Addr().String() })
	err = e.Run(t.Context(), serve)
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.calls, ", "), err
}

var errTest = errors.New("the endpoint is wrong")

// fail is a server that does not start.
func fail(*api) Serve { return func(context.Context, func()) error { return errTest } }

// drain is a server that drains at its end.
func drain(a *api) Serve {
	return func(ctx context.Context, ready func()) error {
		ready()
		<-ctx.Done()
		a.record("drained")
		return nil
	}
}

// endWith returns a server that ends with an error or without while Lambda has an event for it.
func endWith(err error) func(*api) Serve {
	return func(a *api) Serve {
		return func(_ context.Context, ready func()) error {
			ready()
			<-a.waiting
			return err
		}
	}
}

func TestRun(t *testing.T) {
	const (
		refused = ": 403 Forbidden: Extension.InvalidState: not now"
		early   = "ended before the SHUTDOWN event of Lambda"
		noEvent = "could not get the next event of Lambda: event/next" + refused
	)
	for name, test := range map[string]struct {
		serve            func(*api) Serve
		shutdown, invoke bool   // events
		refuse           string // request
		want, wantError  string
	}{
		"SHUTDOWN":      {serve: drain, shutdown: true, want: "register, next, drained"},
		"another event": {serve: drain, shutdown: true, invoke: true, want: "register, next, next, drained"},
		"wrong configuration": {serve: fail,
			want: "register, init/error Extension.StartFailed: the endpoint is wrong", wantError: "the endpoint is wrong"},
		"no start": {serve: func(*api) Serve { return func(context.Context, func()) error { return nil } },
			want: "register, init/error Extension.StartFailed: " + early, wantError: early},
		"wrong configuration, not reported": {serve: fail, refuse: "init/error",
			want: "register", wantError: "the endpoint is wrong (it could not be reported to Lambda: init/error" + refused + ")"},
		"failure while it serves": {serve: endWith(errTest),
			want: "register, next, exit/error Extension.UnexpectedExit: the endpoint is wrong", wantError: "the endpoint is wrong"},
		"end while it serves": {serve: endWith(nil),
			want: "register, next, exit/error Extension.UnexpectedExit: " + early, wantError: early},
		"registration refused": {serve: drain, refuse: "register",
			want: "drained", wantError: "could not register with the Extensions API of Lambda: register" + refused},
		"no next event": {serve: drain, refuse: "event/next",
			want: "register, drained, exit/error Extension.UnexpectedExit: " + noEvent, wantError: noEvent},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api{refuse: test.refuse, invoke: test.invoke, waiting: make(chan struct{}, 2), shutdown: make(chan struct{})}
			if test.shutdown {
				close(a.shutdown)
			}
			calls, err := a.run(t, test.serve(a))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.wantError {
				t.Errorf("error %q, want %q", got, test.wantError)
			}
			if calls != test.want {
				t.Errorf("calls %q, want %q", calls, test.want)
			}
		})
	}
}

// The function starts when the extension has registered. Until then, clients could not connect.
func TestRegistersWhenReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := make(chan string)
		e := &Extension{newClient("api", "iamproxy")}
		e.client.http.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			requests <- "register"
			return nil, errTest
		}}
		serving := make(chan func())
		ended := make(chan error)
		go func() {
			ended <- e.Run(t.Context(), func(ctx context.Context, ready func()) error {
				serving <- ready
				<-ctx.Done()
				return nil
			})
		}()
		ready := <-serving
		synctest.Wait()
		select {
		case <-requests:
			t.Error("it registers before it is ready")
		default:
		}
		ready()
		<-requests
		if err := <-ended; !errors.Is(err, errTest) {
			t.Error(err)
		}
	})
}

func TestDetect(t *testing.T) {
	const path, elsewhere, address = "/opt/extensions/iamproxy", "/opt/bin/iamproxy", "127.0.0.1:9001"
	for _, test := range []struct {
		args       []string
		executable string
		api        string
		want       bool
	}{
		{[]string{path}, path, address, true},
		{[]string{"/opt/extensions/another-name"}, elsewhere, address, true}, // a symbolic link
		{[]string{"iamproxy"}, path, address, true},
		{[]string{path, "check"}, path, address, false}, // started by the function
		{[]string{elsewhere}, elsewhere, address, false},
		{[]string{"iamproxy"}, elsewhere, address, false},
		{[]string{"iamproxy"}, "", address, false},
		{[]string{path}, path, "", false},
	} {
		got := Detect(test.args, test.executable, func(name string) string { return map[string]string{"AWS_LAMBDA_RUNTIME_API": test.api}[name] })
		if (got != nil) != test.want {
			t.Errorf("%q with %q: %v", test.args, test.api, got)
		}
	}
}

func TestSetDefaults(t *testing.T) {
	for _, test := range []struct{ format, level, wantFormat, wantLevel string }{
		{"", "", "json", "warn"},
		{"Text", "", "console", "warn"},
		{"text", "", "console", "warn"},
		{"JSON", "TRACE", "json", "debug"},
		{"JSON", "DEBUG", "json", "debug"},
		{"JSON", "INFO", "json", "info"},
		{"JSON", "WARN", "json", "warn"},
		{"JSON", "ERROR", "json", "error"},
		{"JSON", "FATAL", "json", "error"},
	} {
		t.Run(test.format+test.level, func(t *testing.T) {
			env := map[string]string{"AWS_LAMBDA_LOG_FORMAT": test.format, "AWS_LAMBDA_LOG_LEVEL": test.level, "IAMPROXY_POOL": "0", "IAMPROXY_ADMIN": ""}
			got := defaults(func(name string) string { return env[name] })
			want := map[string]string{"IAMPROXY_ADMIN": "off", "IAMPROXY_CONNECT_TIMEOUT": "10s", "IAMPROXY_DRAIN_MAX": "1s", "IAMPROXY_LOG_FORMAT": test.wantFormat, "IAMPROXY_LOG_LEVEL": test.wantLevel}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
