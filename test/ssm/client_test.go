package ssm_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/coder/websocket"
	"github.com/xtaci/smux"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
)

// noBody is the SHA-256 of no bytes.
const noBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// connector opens the WebSockets of one session.
type connector struct {
	client  *ssm.Client
	session *ssm.StartSessionOutput
}

func (c *connector) connect(ctx context.Context, resume bool) (channel.Socket, string, error) {
	token := aws.ToString(c.session.TokenValue)
	if resume {
		resumed, err := c.client.ResumeSession(ctx, &ssm.ResumeSessionInput{SessionId: c.session.SessionId})
		if err != nil {
			return nil, "", err
		}
		if token = aws.ToString(resumed.TokenValue); token == "" {
			return nil, "", &channel.ConnectError{Err: errors.New("the session has ended"), Final: true}
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, aws.ToString(c.session.StreamUrl), nil)
	if err != nil {
		return nil, "", err
	}
	credentials := aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(ctx, credentials, r, noBody, "ssmmessages", region, time.Now()); err != nil {
		return nil, "", err
	}
	conn, _, err := websocket.Dial(ctx, r.URL.String(), &websocket.DialOptions{HTTPHeader: r.Header})
	return conn, token, err
}

// connect opens a session with iamproxy's data channel at the fake with this address. It
// returns a function that opens connections.
func connect(t testing.TB, url string) func() (net.Conn, error) {
	t.Helper()
	client := clientAt(url)
	session, err := client.StartSession(t.Context(), parameters())
	if err != nil {
		t.Fatal(err)
	}
	c, err := channel.Open(t.Context(), channel.Config{Connect: (&connector{client, session}).connect, ClientVersion: "1.3.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	config := smux.DefaultConfig()
	config.KeepAliveDisabled = true
	streams, err := smux.Client(c, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		streams.Close()
		c.Close()
	})
	return func() (net.Conn, error) { return streams.OpenStream() }
}

// join copies in both directions until one ends.
func join(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}
