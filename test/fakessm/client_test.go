package fakessm_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const old = "3.0.196.0" // forwards one connection, without smux

// start starts a gateway.
func start(t *testing.T, g *fakessm.Gateway) *fakessm.Gateway {
	t.Helper()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// open creates a session to an address.
func open(t *testing.T, g *fakessm.Gateway, address string) (streamURL, token string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return g.Open(fakeaws.Session{ID: "jane-1", Target: "i-1", Document: "AWS-StartPortForwardingSessionToRemoteHost", Host: host, Port: port})
}

// echo returns the address of a server that returns what it receives.
func echo(t *testing.T) string {
	return conntest.Serve(t, func(conn net.Conn) {
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})
}

// client is a plain client of a data channel: it acknowledges all, resends until it has the
// acknowledgement, and expects messages in their order.
type client struct {
	t        *testing.T
	conn     *websocket.Conn
	sequence int64

	mu    sync.Mutex
	acked map[int64]bool
}

// dial opens a WebSocket without the message that has the token.
func dial(t *testing.T, streamURL string) (*client, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, response, err := websocket.Dial(ctx, streamURL, nil)
	if err != nil {
		return nil, response, err
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &client{t: t, conn: conn, acked: make(map[int64]bool)}, response, nil
}

// connect opens a data channel.
func connect(t *testing.T, streamURL, token string) *client {
	t.Helper()
	c, _, err := dial(t, streamURL)
	if err != nil {
		t.Fatal(err)
	}
	c.write(websocket.MessageText, message.Encode(message.OpenChannel{MessageSchemaVersion: "1.0", RequestID: "r", TokenValue: token, ClientID: "c", ClientVersion: "1.3.0.0"}))
	return c
}

// openSession opens the data channel of a new session.
func openSession(t *testing.T, g *fakessm.Gateway, address string) *client {
	t.Helper()
	streamURL, token := open(t, g, address)
	return connect(t, streamURL, token)
}

func (c *client) write(kind websocket.MessageType, b []byte) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), kind, b); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next message that is not an acknowledgement.
func (c *client) read() (message.Message, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, b, err := c.conn.Read(ctx)
		if err != nil {
			return message.Message{}, err
		}
		m, err := message.Parse(b)
		if err != nil {
			return message.Message{}, err
		}
		var ack message.Acknowledgement
		switch {
		case m.Type == message.StartPublication:
		case m.Type != message.Acknowledge:
			return m, nil
		case json.Unmarshal(m.Payload, &ack) == nil:
			c.mu.Lock()
			c.acked[ack.SequenceNumber] = true
			c.mu.Unlock()
		}
	}
}

// next returns the next message of stream data, and acknowledges it.
func (c *client) next(kind message.PayloadType) message.Message {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	if m.Type != message.OutputStreamData || m.PayloadType != kind {
		c.t.Fatalf("received %s, payload %d: %s", m.Type, m.PayloadType, m.Payload)
	}
	c.write(websocket.MessageBinary, message.NewAcknowledge(&m, time.Now()).Append(nil))
	return m
}

// closed returns the text of the message that ends the session.
func (c *client) closed() string {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	var payload message.ChannelClosedPayload
	if m.Type != message.ChannelClosed || json.Unmarshal(m.Payload, &payload) != nil || payload.SessionID != "jane-1" {
		c.t.Fatalf("received %s: %s", m.Type, m.Payload)
	}
	if _, err := c.read(); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		c.t.Errorf("the socket ends with %v", err)
	}
	return payload.Output
}

func (c *client) send(kind message.PayloadType, payload []byte) {
	c.t.Helper()
	m := message.Message{Type: message.InputStreamData, Created: time.Now(), SequenceNumber: c.sequence, ID: message.NewID(), PayloadType: kind, Payload: payload}
	c.sequence++
	b := m.Append(nil)
	c.write(websocket.MessageBinary, b)
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			c.mu.Lock()
			acked := c.acked[m.SequenceNumber]
			c.mu.Unlock()
			if acked || c.conn.Write(c.t.Context(), websocket.MessageBinary, b) != nil {
				return
			}
		}
	}()
}

// request returns the agent's request of the handshake.
func (c *client) request() message.HandshakeRequestPayload {
	c.t.Helper()
	var request message.HandshakeRequestPayload
	if err := json.Unmarshal(c.next(message.HandshakeRequest).Payload, &request); err != nil {
		c.t.Fatal(err)
	}
	return request
}

// respond answers the handshake: all actions have this result.
func (c *client) respond(request message.HandshakeRequestPayload, status message.ActionStatus) {
	c.t.Helper()
	response := message.HandshakeResponsePayload{ClientVersion: "1.3.0.0"}
	for _, action := range request.RequestedClientActions {
		response.ProcessedClientActions = append(response.ProcessedClientActions, message.ProcessedAction{ActionType: action.ActionType, ActionStatus: status})
	}
	c.send(message.HandshakeResponse, message.Encode(response))
}

// shake makes the handshake.
func (c *client) shake() {
	c.t.Helper()
	c.respond(c.request(), message.Success)
	c.next(message.HandshakeComplete)
}

// waitFor waits until the counts are as expected.
func waitFor(t *testing.T, g *fakessm.Gateway, expected func(fakessm.Counts) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !expected(g.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", g.Counts())
		}
	}
}
