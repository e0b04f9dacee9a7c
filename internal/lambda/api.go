package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// The version and the headers of the Extensions API.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
const (
	apiVersion       = "2020-01-01"
	nameHeader       = "Lambda-Extension-Name"
	identifierHeader = "Lambda-Extension-Identifier"
	errorTypeHeader  = "Lambda-Extension-Function-Error-Type"
)

// The types of errors that an extension reports, which Lambda logs.
const (
	startFailed    = "Extension.StartFailed"
	unexpectedExit = "Extension.UnexpectedExit"
)

// shutdownEvent is the type of the last event of an execution environment.
const shutdownEvent = "SHUTDOWN"

// maxErrorBody limits the part of an error response that is read, in bytes.
const maxErrorBody = 4 << 10

// client sends requests to the Extensions API. It has no timeouts: the API is in the execution
// environment, which stands still between two invocations.
type client struct {
	address    string // HOST:PORT
	name       string // of the extension: the name of its file
	identifier string // set by register
	http       http.Client
}

func newClient(address, name string) *client {
	// No proxy: HTTP_PROXY is for requests that leave the execution environment.
	return &client{address: address, name: name, http: http.Client{Transport: &http.Transport{}}}
}

// register registers the extension for the SHUTDOWN event alone. Without INVOKE, an invocation
// does not wait for the extension, and Managed Instances refuse INVOKE.
func (c *client) register(ctx context.Context) error {
	header, err := c.send(ctx, http.MethodPost, "register", "", map[string][]string{"events": {shutdownEvent}}, nil)
	if err != nil {
		return err
	}
	c.identifier = header.Get(identifierHeader)
	if c.identifier == "" {
		return fmt.Errorf("register: the response has no header %s", identifierHeader)
	}
	return nil
}

// next waits for the next event, and returns its type. The first call ends the start of the
// extension.
func (c *client) next(ctx context.Context) (event string, err error) {
	var response struct {
		EventType string `json:"eventType"`
	}
	_, err = c.send(ctx, http.MethodGet, "event/next", "", nil, &response)
	return response.EventType, err
}

// reportInitError reports that the extension could not start. It ends the initialization of the
// execution environment with an error.
func (c *client) reportInitError(ctx context.Context, kind string, cause error) error {
	return c.reportError(ctx, "init/error", kind, cause)
}

// reportExitError reports that the extension ends before the SHUTDOWN event.
func (c *client) reportExitError(ctx context.Context, kind string, cause error) error {
	return c.reportError(ctx, "exit/error", kind, cause)
}

func (c *client) reportError(ctx context.Context, path, kind string, cause error) error {
	_, err := c.send(ctx, http.MethodPost, path, kind, map[string]any{
		"errorMessage": cause.Error(),
		"errorType":    kind,
		"stackTrace":   []string{},
	}, nil)
	return err
}

// send sends a request with a body unless it is nil, and decodes the response into response unless
// that is nil.
func (c *client) send(ctx context.Context, method, path, errorType string, body, response any) (http.Header, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+c.address+"/"+apiVersion+"/extension/"+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.identifier != "" {
		request.Header.Set(identifierHeader, c.identifier)
	} else {
		request.Header.Set(nameHeader, c.name)
	}
	if errorType != "" {
		request.Header.Set(errorTypeHeader, errorType)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return nil, responseError(path, answer)
	}
	if response != nil {
		if err := json.NewDecoder(answer.Body).Decode(response); err != nil {
			return nil, fmt.Errorf("%s: could not decode the response: %w", path, err)
		}
	}
	return answer.Header, nil
}

// responseError returns the error of a response, with its type and message.
func responseError(path string, answer *http.Response) error {
	var detail struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody)) // the status is the error
	_ = json.Unmarshal(body, &detail)
	if detail.Type == "" {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	return fmt.Errorf("%s: %s: %s: %s", path, answer.Status, detail.Type, detail.Message)
}
