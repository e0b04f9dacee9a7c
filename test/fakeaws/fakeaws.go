// Package fakeaws serves those of AWS's APIs that issue credentials or describe databases
// and policies, on loopback, for tests. It answers what the SDK and iamproxy request.
//
// The environment of the SDK:
//
//	AWS_ENDPOINT_URL                    URL(), for STS, SSO and SSO OIDC
//	AWS_ENDPOINT_URL_STS                URL()/sts
//	AWS_ENDPOINT_URL_SSO                URL()/sso
//	AWS_ENDPOINT_URL_SSO_OIDC           URL()/oidc
//	AWS_ENDPOINT_URL_RDS                URL()/rds
//	AWS_ENDPOINT_URL_IAM                URL()/iam
//	AWS_ENDPOINT_URL_SECRETS_MANAGER    URL()/secretsmanager
//	AWS_ENDPOINT_URL_SSM                URL()/ssm
//	AWS_CONTAINER_CREDENTIALS_FULL_URI  URL()/container/anything
//	AWS_EC2_METADATA_SERVICE_ENDPOINT   URL()
//
// The SDK sends AWS_CONTAINER_CREDENTIALS_RELATIVE_URI to an address that exists only on
// ECS; with HTTP_PROXY=URL() the request arrives here.
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
	OIDC      = "oidc" // renews the access tokens of the portal
	Container = "container"
	IMDS      = "imds"

	RDS            = "rds"
	IAM            = "iam"
	SecretsManager = "secretsmanager"
	SSM            = "ssm" // Systems Manager
)

// AWS serves all APIs on one port. The zero value is ready to Start. All methods but Start
// and Close are safe for concurrent use, even before Start.
type AWS struct {
	// Issued, if not nil, is called with every key before it is issued. It must not change
	// after Start.
	Issued func(sigv4.Key)
	// Gateway opens the sessions that Systems Manager starts. Nil: no node is connected. It
	// must not change after Start.
	Gateway Gateway
	// Listener is the listener to use. Nil: a free port of loopback.
	Listener net.Listener

	server   *http.Server // nil: not started
	url      string
	stopped  chan struct{}  // closed when server no longer accepts
	handlers sync.WaitGroup // requests being answered; mu is held to add

	mu       sync.Mutex
	closed   bool
	ahead    time.Duration
	life     time.Duration // 0: the default
	fault    Fault
	requests map[string]int        // by service
	keys     map[string]credential // by access key ID
	roles    map[string]*role      // by ARN
	portal   portal
	secret   string               // the Authorization that Container requires
	sessions map[string]time.Time // tokens of IMDS and when they expire

	databases databases
	policies  map[owner][]Policy
	entities  map[string]bool   // ARNs of users and roles with policies
	secrets   map[string]Secret // by ARN

	nodes       map[string]Node // by ARN
	ssmSessions map[string]bool // by ARN, ended ones too
}

// Start starts the server.
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
		_ = a.server.Serve(listener) // ends with Close only
	}()
	return nil
}

// Close closes all connections and returns when no request is being answered. It may be
// called repeatedly, and without Start.
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

// URL returns http://127.0.0.1:port. It is empty before Start.
func (a *AWS) URL() string { return a.url }

// SetClockOffset sets AWS's clock ahead of the real time by d. It applies to the Date
// header, to the verification of signatures and to the expiration of keys. IMDS and
// Container run on the client's machine, so their Date is the real time.
func (a *AWS) SetClockOffset(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ahead = d
}

// now returns the time of AWS.
func (a *AWS) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().UTC().Add(a.ahead)
}

// Requests returns the number of requests to a service since Start, answered or not.
func (a *AWS) Requests(service string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests[service]
}
