package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Client sends requests to the admin server of the iamproxy on this host. Its errors do not
// contain the address.
type Client struct {
	Address string // as for ParseAddress
}

var (
	errNotIamproxy = errors.New("what answers there is not iamproxy; --admin has to be that of run")
	errNoAnswer    = errors.New("no answer in time")
	errClosed      = errors.New("the connection was closed")
)

// Ready returns nil if iamproxy is ready, and otherwise an error with the reasons.
func (c Client) Ready(ctx context.Context) error {
	status, body, err := c.do(ctx, http.MethodGet, "/readyz")
	if err != nil || status == http.StatusOK {
		return err
	}
	var reasons []string
	for line := range strings.SplitSeq(body, "\n") {
		if reason, ok := strings.CutPrefix(line, notReady+"  "); ok {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return fmt.Errorf("status %d", status)
	}
	return errors.New(strings.Join(reasons, "; "))
}

// Shutdown requests a shutdown, and does not wait for it. It returns the server's answer.
func (c Client) Shutdown(ctx context.Context) (answer string, err error) {
	status, body, err := c.do(ctx, http.MethodPost, "/shutdown")
	if err == nil && status != http.StatusAccepted {
		err = errors.New(text.OneLine(body))
	}
	return text.OneLine(body), err
}

func (c Client) do(ctx context.Context, method, path string) (status int, body string, err error) {
	client := &http.Client{
		Transport: &http.Transport{ // without an HTTP proxy
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return listen.Dial(ctx, network, c.Address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", requestError(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Server") != "iamproxy" {
		return 0, "", errNotIamproxy
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, string(b), err
}

// requestError returns the error for err of a request, without the URL, the addresses and the
// response.
func requestError(err error) error {
	var failed net.Error
	switch {
	case errors.Is(err, listen.ErrNoListener):
		return listen.ErrNoListener
	case errors.Is(err, fs.ErrPermission):
		return fs.ErrPermission
	case errors.As(err, &failed) && failed.Timeout():
		return errNoAnswer
	case errors.Is(err, io.EOF), errors.As(err, new(*net.OpError)):
		return errClosed
	default: // not HTTP
		return errNotIamproxy
	}
}
