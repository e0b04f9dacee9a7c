package ssm

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/coder/websocket"
)

const (
	// maxMessage limits the bytes of a WebSocket message.
	maxMessage = 128 << 10
	// While a session is resumed, a step of the network may take this long: the name, the
	// TCP connection, TLS. Such a step hangs if the network comes back meanwhile.
	stepTimeout = 1200 * time.Millisecond
	// answerTimeout is the same for an answer, which takes the service some time.
	answerTimeout = 2 * time.Second
	// Each patienceInterval-th attempt waits for patientTimeout, for a network that is slow.
	patientTimeout, patienceInterval = 5 * time.Second, 8
)

// openSocket opens a WebSocket. The request is signed as AWS's client does, unless the address
// has a signature.
func (f *Forward) openSocket(ctx context.Context, address string) (*websocket.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the address of the session is not a URL") // err contains it
	}
	if u.Scheme != "wss" && (u.Scheme != "ws" || !f.AllowHTTP) {
		return nil, fmt.Errorf("the address of the session has scheme %q instead of wss", u.Scheme)
	}
	config, err := f.Config(ctx)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if !u.Query().Has("X-Amz-Signature") {
		if header, err = sign(ctx, config, address); err != nil {
			return nil, err
		}
	}
	transport := newTransport(ctx, config.HTTPClient)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	conn, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
	if err != nil {
		transport.CloseIdleConnections()
		return nil, newUpgradeError(u.Hostname(), response, err)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// sign returns the headers of a signed request.
func sign(ctx context.Context, config aws.Config, address string) (http.Header, error) {
	if config.Credentials == nil {
		return nil, errors.New("the AWS configuration has no credentials")
	}
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the address of the session is not a URL")
	}
	empty := sha256.Sum256(nil)
	err = v4.NewSigner().SignHTTP(ctx, credentials, request, hex.EncodeToString(empty[:]), "ssmmessages", config.Region, time.Now())
	return request.Header, err
}

// newTransport returns a transport for one WebSocket with the settings of an HTTP client of the
// SDK, such as its proxy and its roots. HTTP/2 has no upgrade to a WebSocket. A dial ends with ctx:
// package http would let it go on without its request.
func newTransport(ctx context.Context, client aws.HTTPClient) *http.Transport {
	var transport *http.Transport
	switch c := client.(type) {
	case interface{ GetTransport() *http.Transport }: // of the SDK
		transport = c.GetTransport()
	case *http.Client:
		if t, ok := c.Transport.(*http.Transport); ok {
			transport = t.Clone()
		}
	}
	if transport == nil {
		transport = awshttp.NewBuildableClient().GetTransport()
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(true)
	transport.ForceAttemptHTTP2, transport.TLSNextProto = false, nil
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.NextProtos = nil
	}
	dial := transport.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	transport.DialContext = func(dialing context.Context, network, address string) (net.Conn, error) {
		dialing, cancel := context.WithCancel(dialing)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return dial(dialing, network, address)
	}
	return transport
}

// newUpgradeError returns the error of a WebSocket that could not be opened.
func newUpgradeError(host string, response *http.Response, err error) *UpgradeError {
	failed := &UpgradeError{Host: host, Err: err}
	var request *url.Error
	switch {
	case errors.As(err, &request): // its text has the URL
		failed.Err = request.Err
	case response != nil:
		failed.Status = response.StatusCode
		failed.Code, _, _ = strings.Cut(response.Header.Get("X-Amzn-Errortype"), ":")
		failed.Err = fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	return failed
}

// errStep is the cause of a context whose request hangs.
var errStep = errors.New("network does not answer")

// stepError returns errStep if it has ended ctx, and otherwise err.
func stepError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStep) {
		return errStep
	}
	return err
}

// withStepTimeout returns a context that ends when a step of an HTTP request takes longer than
// timeout. Time between requests does not count.
func withStepTimeout(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(time.Hour, func() { cancel(errStep) })
	timer.Stop()
	step := func() { timer.Reset(timeout) }
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { step() },
		DNSDone: func(httptrace.DNSDoneInfo) { step() },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				step()
			}
		},
		TLSHandshakeDone:     func(tls.ConnectionState, error) { step() },
		GotConn:              func(httptrace.GotConnInfo) { timer.Reset(max(timeout, answerTimeout)) },
		GotFirstResponseByte: func() { timer.Stop() },
	})
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}
