// Package fakeaws is AWS's services that give out credentials, and those that know of
// databases and policies, as far as the SDK asks them, on loopback, for tests.
//
// What the SDK is to be told, by way of its environment:
//
//	AWS_ENDPOINT_URL_STS                URL()/sts
//	AWS_ENDPOINT_URL_SSO                URL()/sso
//	AWS_ENDPOINT_URL_SSO_OIDC           URL()/oidc
//	AWS_ENDPOINT_URL_RDS                URL()/rds
//	AWS_ENDPOINT_URL_IAM                URL()/iam
//	AWS_ENDPOINT_URL_SECRETS_MANAGER    URL()/secretsmanager
//	AWS_CONTAINER_CREDENTIALS_FULL_URI  URL()/container/anything
//	AWS_EC2_METADATA_SERVICE_ENDPOINT   URL()
//
// With AWS_CONTAINER_CREDENTIALS_RELATIVE_URI it asks an address that is nowhere
// but on ECS; with HTTP_PROXY=URL() it asks here.
package fakeaws

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// The services, for Requests and Fault.
const (
	STS       = "sts"
	SSO       = "sso"  // the portal of IAM Identity Center
	OIDC      = "oidc" // what renews the portal's access tokens
	Container = "container"
	IMDS      = "imds"

	RDS            = "rds"
	IAM            = "iam"
	SecretsManager = "secretsmanager"
)

// AWS is all of the services, on one port. The zero value is ready to Start. All
// methods are safe for concurrent use but Start and Close, and may be called
// before Start.
type AWS struct {
	// Issued is told of every key before it is given out. Nil: nobody is. It must
	// not change after Start.
	Issued func(sigv4.Key)
	// Listener is where it listens. Nil: at any free port of loopback.
	Listener net.Listener

	server   *http.Server // nil: not started
	url      string
	stopped  chan struct{}  // closed when server accepts no more
	handlers sync.WaitGroup // what still answers; mu is held to add

	mu       sync.Mutex
	closed   bool
	ahead    time.Duration
	life     time.Duration // 0: SetLife was not called
	fault    Fault
	requests map[string]int        // by service
	keys     map[string]credential // by access key ID
	roles    map[string]*role      // by ARN
	portal   portal
	secret   string               // what Container wants for Authorization
	sessions map[string]time.Time // of IMDS, until when, by token

	databases databases
	policies  map[owner][]Policy
	entities  map[string]bool   // ARNs of users and roles that policies were attached to
	secrets   map[string]Secret // by ARN
}

// Start begins to serve.
func (a *AWS) Start() error {
	if a.server != nil {
		return errors.New("fakeaws: already started")
	}
	listener := a.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("fakeaws: %w", err)
		}
	}
	a.url = "http://" + listener.Addr().String()
	a.server = &http.Server{Handler: http.HandlerFunc(a.serve), ReadHeaderTimeout: time.Minute}
	a.stopped = make(chan struct{})
	go func() {
		defer close(a.stopped)
		_ = a.server.Serve(listener) // ends with Close, and with nothing else
	}()
	return nil
}

// Close ends all connections and returns when nothing is being answered any
// more. It may be called more than once, and without Start.
func (a *AWS) Close() error {
	if a.server == nil {
		return nil
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	err := a.server.Close()
	<-a.stopped
	a.handlers.Wait()
	if err != nil {
		return fmt.Errorf("fakeaws: close: %w", err)
	}
	return nil
}

// URL is http://127.0.0.1:port. It is empty before Start.
func (a *AWS) URL() string { return a.url }

// SetClockOffset makes AWS's clock d ahead of the real time, or behind: the Date
// header of all services but two, what they verify signatures by, and what all keys
// given out expire by. The two, IMDS and Container, are on the client's machine, and
// have its time for Date.
func (a *AWS) SetClockOffset(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ahead = d
}

// now is the time of AWS.
func (a *AWS) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().UTC().Add(a.ahead)
}

// Requests is how many a service has got since Start, answered or not.
func (a *AWS) Requests(service string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[service]
}
