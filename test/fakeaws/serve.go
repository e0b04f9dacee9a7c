package fakeaws

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// containerHosts are the addresses of the agents of ECS and EKS. Requests for them arrive
// through HTTP_PROXY.
var containerHosts = []string{"169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"}

// Fault describes a failure. The zero value is none.
type Fault struct {
	Status int           // answer with this status, such as 500, 429 or 200; 0: as usual
	Body   string        // the body that comes with Status, as text/plain
	Delay  time.Duration // before the answer, unless the client disconnects
	Cut    bool          // close the connection without an answer
	Only   string        // the one service that fails; empty: all
}

// SetFault makes all requests fail from now on; the zero Fault ends that. A Go client
// repeats a GET if a kept connection is cut, and both count as Requests.
func (a *AWS) SetFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = f
}

// serve finds the service of a request, and serves it.
func (a *AWS) serve(w http.ResponseWriter, r *http.Request) {
	service, path, answer := a.route(r)
	fault := a.begin(service)
	defer a.handlers.Done()
	// net/http notices that a client has disconnected only if the body has been read.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if service != Container && service != IMDS {
		w.Header().Set("Date", a.now().Format(http.TimeFormat))
	}
	if service == "" {
		http.NotFound(w, r)
		return
	}
	if !fault.happen(w, r) {
		answer(w, r, path)
	}
}

// route returns the service of r, the path within it, and its handler.
func (a *AWS) route(r *http.Request) (service, path string, answer func(http.ResponseWriter, *http.Request, string)) {
	if slices.Contains(containerHosts, r.Host) {
		return Container, r.URL.Path, a.container
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch first {
	case "sts":
		return STS, rest, a.sts
	case "sso":
		return SSO, rest, a.sso
	case "oidc":
		return OIDC, rest, a.oidc
	case "rds":
		return RDS, rest, a.rds
	case "iam":
		return IAM, rest, a.iam
	case "secretsmanager":
		return SecretsManager, rest, a.secretsManager
	case "ssm":
		return SSM, rest, a.ssm
	case "container":
		return Container, rest, a.container
	case "latest":
		return IMDS, rest, a.imds
	// With AWS_ENDPOINT_URL all services have the same address, and the request tells which.
	case "federation":
		return SSO, first + "/" + rest, a.sso
	case "token":
		return OIDC, first, a.oidc
	case "":
		return STS, rest, a.sts
	}
	return "", "", nil
}

// begin counts a request, and returns the fault that applies. The caller calls
// handlers.Done.
func (a *AWS) begin(service string) Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		// Close no longer waits for new handlers.
		panic(http.ErrAbortHandler)
	}
	a.handlers.Add(1)
	if a.requests == nil {
		a.requests = make(map[string]int)
	}
	a.requests[service]++
	if a.fault.Only != "" && a.fault.Only != service {
		return Fault{}
	}
	return a.fault
}

// happen applies f, and reports whether the request is done.
func (f Fault) happen(w http.ResponseWriter, r *http.Request) bool {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if f.Cut {
		panic(http.ErrAbortHandler)
	}
	if f.Status == 0 {
		return false
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(f.Body)) // a client may have disconnected
	return true
}
