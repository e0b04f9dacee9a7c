package fakessm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

// DefaultVersion is the version of an Agent.
const DefaultVersion = "3.3.0.0"

// Versions after which the agent has another plugin for ports: aws/session-manager-plugin,
// src/config/config.go, and aws/amazon-ssm-agent, agent/session/plugins/port/port.go.
const (
	muxAfter              = "3.0.196.0"
	muxClientFrom         = "1.1.70"
	noKeepAliveAfter      = "3.1.1511.0"
	noKeepAliveClientFrom = "1.2.331.0"
)

// The times of the agent: aws/amazon-ssm-agent, agent/session/config/config.go and
// agent/session/datachannel/datachannel.go.
const (
	handshakeTimeout = 15 * time.Second
	resendInterval   = 100 * time.Millisecond
	initialTimeout   = 200 * time.Millisecond
	maxTimeout       = time.Second
	granularity      = 10 * time.Millisecond
	initialRoundTrip = 100 * time.Millisecond
	closingTime      = 2 * time.Second
)

// Agent describes the SSM Agent of a target. The zero value is one that multiplexes and
// dials what it is asked for.
type Agent struct {
	// Version is the version that it reports, and that it behaves as. Zero: DefaultVersion.
	Version string
	// Routes are the addresses to dial for a host and port, such as db.example.com:5432, or
	// for a host with all ports. Other addresses are dialed as they are. The host of a
	// session without one is localhost.
	Routes map[string]string
	// NoSleep makes it send without a pause of 1 ms after each message. The pause limits the
	// real agent to about 0.6 MB/s.
	NoSleep bool
	// KMSKey is a key for which the handshake asks the client. Real agents do not ask in a
	// port forward. Zero: none.
	KMSKey string
	// SessionType is the session's type in the handshake. Zero: Port, or Standard_Stream
	// for a session without a document.
	SessionType string
}

// agent is the agent's side of a data channel.
type agent struct {
	Agent
	*session
	response chan message.HandshakeResponsePayload

	// Only receive uses these.
	expected int64
	early    map[int64]message.Message

	mu       sync.Mutex
	changed  sync.Cond // paused, unacked or the session has changed
	paused   bool
	sequence int64
	unacked  []*sent
	timeout  time.Duration
	rtt      time.Duration
	rttvar   time.Duration
	ready    bool // the handshake is complete
	port     port // nil: not started
}

// sent is a message that waits for its acknowledgement.
type sent struct {
	sequence int64
	content  []byte
	at       time.Time
}

// port is the agent's plugin for one kind of port session.
type port interface {
	// receive writes data of the client.
	receive(data []byte) error
	// disconnect closes the connection, when the client has closed its own.
	disconnect()
	// pump sends data to the client until the session ends.
	pump(ctx context.Context) error
	close()
}

func newAgent(s *session) *agent {
	a := &agent{Agent: s.gateway.agentOf(s.Target), session: s, response: make(chan message.HandshakeResponsePayload, 1),
		early: make(map[int64]message.Message), timeout: initialTimeout, rtt: initialRoundTrip}
	a.changed.L = &a.mu
	context.AfterFunc(s.ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})
	return a
}

// run makes the handshake, and then forwards the port until the session ends.
func (a *agent) run() {
	err := a.forward()
	a.waitForAcknowledgements(closingTime)
	output := ""
	if err != nil && a.ctx.Err() == nil {
		output = err.Error()
	}
	a.end(output)
}

func (a *agent) forward() error {
	version, err := a.handshake()
	if err != nil {
		return err
	}
	p, err := a.newPort(version)
	if err != nil {
		return err
	}
	defer p.close()
	a.mu.Lock()
	a.port = p
	a.mu.Unlock()
	return p.pump(a.ctx)
}

// handshake returns the client's version.
func (a *agent) handshake() (clientVersion string, err error) {
	begin := time.Now()
	kind := cmp.Or(a.SessionType, message.PortSession)
	if a.Document == "" {
		kind = cmp.Or(a.SessionType, "Standard_Stream")
	}
	properties := map[string]string{"portNumber": a.Port, "localPortNumber": "", "type": "LocalPortForwarding"}
	if a.Host != "" {
		properties["host"] = a.Host
	}
	request := message.HandshakeRequestPayload{AgentVersion: a.Version, RequestedClientActions: []message.RequestedAction{{
		ActionType:       message.SessionType,
		ActionParameters: message.Encode(message.SessionTypeParameters{SessionType: kind, Properties: message.Encode(properties)}),
	}}}
	if a.KMSKey != "" {
		request.RequestedClientActions = append(request.RequestedClientActions, message.RequestedAction{
			ActionType: message.KMSEncryption, ActionParameters: message.Encode(map[string]string{"KMSKeyId": a.KMSKey, "Challenge": ""}),
		})
	}
	a.send(message.HandshakeRequest, message.Encode(request))
	timeout := time.NewTimer(handshakeTimeout)
	defer timeout.Stop()
	select {
	case response := <-a.response:
		for _, action := range response.ProcessedClientActions {
			if action.ActionStatus != message.Success {
				return "", errors.New(string(action.ActionType) + " failed on client with status " + strconv.Itoa(int(action.ActionStatus)) + " error: " + action.Error)
			}
		}
		clientVersion = response.ClientVersion
	case <-timeout.C:
		return "", errors.New("Handshake timed out. Please ensure that you have the latest version of the session manager plugin.") //nolint:staticcheck // the agent's text
	case <-a.ctx.Done():
		return "", a.ctx.Err()
	}
	if a.KMSKey != "" {
		return "", errors.New("Fetching data key failed") //nolint:staticcheck // likewise
	}
	// The real agent is ready after it has sent the message, and loses data that arrives
	// between. Without a network, a client would be fast enough for that.
	a.mu.Lock()
	a.ready = true
	a.mu.Unlock()
	a.send(message.HandshakeComplete, message.Encode(message.HandshakeCompletePayload{HandshakeTimeToComplete: time.Since(begin)}))
	return clientVersion, nil
}

func (a *agent) newPort(clientVersion string) (port, error) {
	if compareVersions(a.Version, muxAfter) > 0 && compareVersions(clientVersion, muxClientFrom) >= 0 {
		keepAlive := compareVersions(a.Version, noKeepAliveAfter) <= 0 || compareVersions(clientVersion, noKeepAliveClientFrom) <= 0
		return newMux(a, keepAlive)
	}
	return newBasic(a)
}

// dial connects to the destination of the session.
func (a *agent) dial() (net.Conn, error) {
	host := cmp.Or(a.Host, "localhost")
	address := net.JoinHostPort(host, a.Port)
	address = cmp.Or(a.Routes[address], a.Routes[host], address)
	dialer := net.Dialer{Timeout: time.Minute}
	conn, err := dialer.DialContext(a.ctx, "tcp", address)
	if err != nil {
		a.gateway.count(func(c *Counts) { c.ConnectErrors++ })
		return nil, err
	}
	a.gateway.count(func(c *Counts) { c.Streams++; c.OpenStreams++ })
	return counted{conn, sync.OnceFunc(func() { a.gateway.count(func(c *Counts) { c.OpenStreams-- }) })}, nil
}

// counted is a connection that calls closed once.
type counted struct {
	net.Conn
	closed func()
}

func (c counted) Close() error {
	c.closed()
	return c.Conn.Close()
}

// compareVersions compares versions such as 3.1.1511.0.
func compareVersions(a, b string) int {
	first, second := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(first), len(second)) {
		if order := cmp.Compare(number(first, i), number(second, i)); order != 0 {
			return order
		}
	}
	return 0
}

func number(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, _ := strconv.Atoi(parts[i]) // a part that is no number counts as 0
	return n
}

// decode decodes JSON of a client. The agent ignores a message that it cannot decode.
func decode[T any](payload []byte) (value T, ok bool) {
	return value, json.Unmarshal(payload, &value) == nil
}
