// Package fakessm serves the data channels of Session Manager on loopback, for tests: the
// message gateway of AWS, and a double of the SSM Agent on the target. Package fakeaws
// starts the sessions:
//
//	gateway := &fakessm.Gateway{}
//	err := gateway.Start()
//	aws := &fakeaws.AWS{Gateway: gateway}
//	gateway.Authorize = aws.AuthorizeOpenDataChannel
//
// AWS's own client, the Session Manager plugin, is the oracle of both: see test/ssm. What
// the real gateway does is known from the sources of the plugin and the agent only.
package fakessm

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// DefaultIdleTimeout is the idle timeout of Session Manager.
const DefaultIdleTimeout = 20 * time.Minute

// Gateway is a message gateway with the agents of all targets. The zero value is ready to
// Start. The fields must not change after Start. All methods but Start and Close are safe
// for concurrent use.
type Gateway struct {
	// Authorize returns an error unless r, which opens the data channel of a session, is
	// signed and allowed. Nil: upgrades need no signature.
	Authorize func(r *http.Request, session string) error
	// Agent is the agent on each target that Agents does not have.
	Agent  Agent
	Agents map[string]Agent // by target
	// IdleTimeout is the time without data after which a session ends. Zero:
	// DefaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxDuration is the time after which a session ends. Zero: none.
	MaxDuration time.Duration
	// Issued, if not nil, is called with every secret of a session before it is issued: its
	// tokens, and a part of the query of its address.
	Issued func(secret string)
	// Listener is the listener to use. Nil: a free port of loopback.
	Listener net.Listener
	// TLS is the configuration of wss://. Nil: ws://.
	TLS *tls.Config

	server  *http.Server
	address string // without a path
	running sync.WaitGroup
	stopped context.Context
	stop    context.CancelFunc

	mu       sync.Mutex
	closed   bool
	faults   Faults
	counts   Counts
	sessions map[string]*session // ended ones have nil
}

// Start starts the server.
func (g *Gateway) Start() error {
	if g.server != nil {
		return errors.New("fakessm: already started")
	}
	listener := g.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("fakessm: %w", err)
		}
	}
	scheme := "ws"
	if g.TLS != nil {
		scheme = "wss"
		listener = tls.NewListener(listener, g.TLS)
	}
	g.address = scheme + "://" + listener.Addr().String()
	g.stopped, g.stop = context.WithCancel(context.Background())
	g.sessions = make(map[string]*session)
	g.server = &http.Server{Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: time.Minute, ConnContext: withConnection}
	g.running.Go(func() { _ = g.server.Serve(listener) }) // ends with Close only
	return nil
}

// Close ends all sessions, and returns when nothing of them runs. It may be called
// repeatedly, and without Start.
func (g *Gateway) Close() error {
	if g.server == nil {
		return nil
	}
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	err := g.server.Close()
	g.Cut()
	g.running.Wait()
	return err
}

// URL returns the address of the gateway: ws://127.0.0.1:port. It is empty before Start.
func (g *Gateway) URL() string { return g.address }

// Open implements fakeaws.Gateway.
func (g *Gateway) Open(s fakeaws.Session) (streamURL, token string) {
	cell := rand.Text()
	opened := newSession(g, s, cell)
	g.mu.Lock()
	g.sessions[s.ID] = opened
	g.counts.Started++
	g.mu.Unlock()
	g.issue(cell)
	return opened.url, opened.issueToken()
}

// Resume implements fakeaws.Gateway.
func (g *Gateway) Resume(id string) (streamURL, token string) {
	s := g.session(id)
	if s == nil || g.currentFaults().RefuseResume {
		return "", ""
	}
	g.count(func(c *Counts) { c.Resumed++ })
	return s.url, s.issueToken()
}

// Terminate implements fakeaws.Gateway.
func (g *Gateway) Terminate(id string) {
	g.count(func(c *Counts) { c.Terminated++ })
	if s := g.session(id); s != nil {
		s.end("")
	}
}

func (g *Gateway) issue(secret string) {
	if g.Issued != nil {
		g.Issued(secret)
	}
}

// session returns a session that has not ended, or nil.
func (g *Gateway) session(id string) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[id]
}

// all returns the sessions that have not ended.
func (g *Gateway) all() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*session
	for _, s := range g.sessions {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (g *Gateway) agentOf(target string) Agent {
	agent, special := g.Agents[target]
	if !special {
		agent = g.Agent
	}
	agent.Version = cmp.Or(agent.Version, DefaultVersion)
	return agent
}

// serve serves the upgrade of a data channel to a WebSocket.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	g.count(func(c *Counts) { c.Upgrades++ })
	if status := g.currentFaults().RefuseUpgrade; status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	id, isChannel := strings.CutPrefix(r.URL.Path, "/v1/data-channel/")
	s := g.session(id)
	switch {
	case !isChannel || s == nil || r.URL.Query().Get("cell-number") != s.cell:
		http.NotFound(w, r)
		return
	case r.URL.Query().Get("role") != "publish_subscribe":
		http.Error(w, "role must be publish_subscribe", http.StatusBadRequest)
		return
	}
	if g.Authorize != nil {
		if err := g.Authorize(r, id); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow() //nolint:errcheck // it may be closed
	if !g.begin() {
		return
	}
	defer g.running.Done()
	conn.SetReadLimit(1 << 20)
	s.serve(newSocket(conn, connectionOf(r)))
}

// begin reports whether a goroutine may start, which calls running.Done. Close waits for it.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.running.Add(1)
	}
	return !g.closed
}

// streamURL returns the address of a session's data channel.
func (g *Gateway) streamURL(id, cell string) string {
	query := url.Values{"role": {"publish_subscribe"}, "cell-number": {cell}}
	return g.address + "/v1/data-channel/" + url.PathEscape(id) + "?" + query.Encode()
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// connectionOf returns the TCP connection of a request, or nil.
func connectionOf(r *http.Request) *net.TCPConn {
	conn := r.Context().Value(connectionKey{})
	if encrypted, isTLS := conn.(*tls.Conn); isTLS {
		conn = encrypted.NetConn()
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp
}
