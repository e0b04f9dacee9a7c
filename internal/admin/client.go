package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/iamproxy/iamproxy/internal/listen"
)

// Client sends requests to the admin server of the iamproxy on this host.
type Client struct {
	Address string // as for ParseAddress
}

// errNotIamproxy is the error for another server at the address.
var errNotIamproxy = errors.New("what answers there is not iamproxy; --admin has to be that of run")

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
		return fmt.Errorf("it says %d", status)
	}
	return errors.New(strings.Join(reasons, "; "))
}

// Shutdown requests a shutdown. It does not wait for it.
func (c Client) Shutdown(ctx context.Context) error {
	status, body, err := c.do(ctx, http.MethodPost, "/shutdown")
	switch {
	case err != nil:
		return fmt.Errorf("no iamproxy could be asked at %s: %w", c.Address, err)
	case status != http.StatusAccepted:
		return fmt.Errorf("the iamproxy at %s does not shut down: %s", c.Address, strings.TrimSpace(body))
	}
	return nil
}

func (c Client) do(ctx context.Context, method, path string) (status int, body string, err error) {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // no HTTP proxy either
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+listen.DialAddr(c.Address)+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	if response.Header.Get("Server") != "iamproxy" {
		return 0, "", errNotIamproxy
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, string(b), err
}
