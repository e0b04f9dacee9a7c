package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	errNotIamproxy = errors.New("the program that answers there is not iamproxy; set --admin as for run")
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

// maxResponse is the maximum length of a response, in bytes.
const maxResponse = 64 << 10

// do sends a request over a new connection. http.Transport would log unexpected data of other
// servers.
func (c Client) do(ctx context.Context, method, path string) (status int, body string, err error) {
	conn, err := listen.Dial(ctx, "tcp", c.Address)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	response, err := roundTrip(ctx, conn, method, path)
	if err != nil {
		return 0, "", requestError(ctx, err)
	}
	defer response.Body.Close()
	if response.Header.Get("Server") != "iamproxy" {
		return 0, "", errNotIamproxy
	}
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", requestError(ctx, err)
	}
	return response.StatusCode, string(b), nil
}

func roundTrip(ctx context.Context, conn net.Conn, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxResponse)), request)
}

// requestError returns the error for err of a request, without addresses and the response.
func requestError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return listen.ErrNoAnswer
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, new(*net.OpError)):
		return errClosed
	default: // not HTTP
		return errNotIamproxy
	}
}
