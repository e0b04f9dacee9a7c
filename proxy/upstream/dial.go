// Package upstream connects to a PostgreSQL server over verified TLS and logs in.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/internal/winsock"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

const (
	// dialTimeout bounds one attempt to connect, so that the next one resolves the name
	// again.
	dialTimeout = 5 * time.Second
	// connectTimeout is the default of Dialer.Timeout.
	connectTimeout = 10 * time.Second
)

// Dialer connects to one database. Endpoint and TLS must be set. The fields must not change
// once it is in use.
type Dialer struct {
	// Endpoint is the database's host:port, as messages name it.
	Endpoint string
	// Via is the host:port that is dialed instead. If empty, Endpoint.
	Via string
	// SOCKS is a proxy through which the server is reached, and which resolves its name.
	// If nil, the server is dialed directly.
	SOCKS *SOCKS5
	// TLS verifies the server, whatever was dialed. It must have a ServerName.
	TLS *tls.Config
	// AllRoots returns the roots that replace TLS.RootCAs if these are nil, or as soon as a
	// server's certificate has another issuer. That server is dialed again. If AllRoots is
	// nil, TLS.RootCAs are all roots.
	AllRoots func() *x509.CertPool
	// DirectTLS starts TLS without an SSLRequest, which saves a round trip and needs
	// PostgreSQL 17.
	DirectTLS bool
	// RDSProxy marks the server as an RDS Proxy. Some of its errors are identified by their text.
	RDSProxy bool
	// DialContext connects to the server. If nil, a net.Dialer that tries every address of
	// a name and detects a server that has vanished. An error that has a method
	// Advice() string returns a hint with it.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one dial and its TLS, and again those with AllRoots. A DialContext may
	// take longer; then it bounds TLS alone. If zero, 10 s. The caller's context bounds all
	// of it.
	Timeout time.Duration
	// TunnelOutput returns the last line printed by the program that DialContext connects
	// through. May be nil.
	TunnelOutput func() string

	needsAllRoots atomic.Bool
	mu            sync.Mutex
	configs       [2]*tls.Config // TLS with ALPN, with TLS.RootCAs and with AllRoots; nil before their use
}

// Conn is a connection to the server, inside verified TLS.
type Conn struct {
	*netconn.Conn
	Address string // where this very server is dialed again
	Name    string // the database, as messages name it
	Timings Timings
	// RDSProxy is copied from the Dialer.
	RDSProxy bool

	stopClosing func() bool // nil before CloseWhenDone
}

// Timings holds the durations of the steps of connecting. Login is that of the function.
type Timings struct{ Resolve, Dial, TLS, Login time.Duration }

// Connect dials the database and starts TLS. ctx bounds it, and its deadline stays that of
// the connection. The error is an *pgwire.Error, a timeout, or that of a connection that
// broke; AsError makes an *pgwire.Error of each.
func (d *Dialer) Connect(ctx context.Context) (*Conn, error) { return d.ConnectTo(ctx, d.address()) }

// ConnectTo is Connect to a Conn's Address.
func (d *Dialer) ConnectTo(ctx context.Context, address string) (*Conn, error) {
	all := d.AllRoots != nil && (d.TLS.RootCAs == nil || d.needsAllRoots.Load())
	conn, err := d.connectTo(ctx, address, all)
	if d.AllRoots != nil && !all && pgwire.ReasonOf(err) == pgwire.TLSUntrusted {
		d.needsAllRoots.Store(true)
		return d.connectTo(ctx, address, true)
	}
	return conn, err
}

// tlsConfig returns TLS with ALPN, and with AllRoots if all is set.
func (d *Dialer) tlsConfig(all bool) *tls.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	config := &d.configs[0]
	if all {
		config = &d.configs[1]
	}
	if *config == nil {
		*config = d.TLS.Clone()
		(*config).NextProtos = []string{pgwire.ALPN}
		if all {
			(*config).RootCAs = d.AllRoots()
		}
	}
	return *config
}

func (d *Dialer) connectTo(ctx context.Context, address string, all bool) (*Conn, error) {
	deadline, _ := ctx.Deadline()
	timeout := cmp.Or(d.Timeout, connectTimeout)
	if d.DialContext == nil {
		within, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = within
	}
	var took Timings
	tcp, err := d.dial(ctx, address, &took)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, began := netconn.New(tcp), time.Now()
	conn.Socket().SetUserTimeout()
	if err := d.startTLS(ctx, conn, all); err != nil {
		tcp.Close()
		return nil, err
	}
	took.TLS = time.Since(began)
	tcp.SetDeadline(deadline)
	server := &Conn{Conn: conn, Address: tcp.RemoteAddr().String(), Name: d.Name(), Timings: took, RDSProxy: d.RDSProxy}
	if d.SOCKS != nil {
		server.Address = address // as the SOCKS proxy resolves it
	}
	return server, nil
}

// CloseWhenDone closes the connection when ctx is done.
func (c *Conn) CloseWhenDone(ctx context.Context) {
	c.stopClosing = context.AfterFunc(ctx, func() { c.Conn.Close() })
}

// Close closes the connection, with TLS's close_notify.
func (c *Conn) Close() error {
	if c.stopClosing != nil {
		c.stopClosing()
	}
	return c.Conn.Close()
}

// Terminate closes an idle connection as a client does.
func (c *Conn) Terminate() {
	c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = c.Write(pgwire.Encode(&pgproto3.Terminate{}))
	c.Close()
}

// Name returns the database's name in messages: the endpoint, and what it is reached
// through.
func (d *Dialer) Name() string {
	if via := d.via(); via != "" {
		return d.Endpoint + " (via " + via + ")"
	}
	return d.Endpoint
}

// via returns the address that is dialed in place of the server's, or "".
func (d *Dialer) via() string {
	if d.SOCKS != nil {
		return d.SOCKS.String()
	}
	return d.Via
}

func (d *Dialer) address() string {
	if d.Via != "" {
		return d.Via
	}
	return d.Endpoint
}

// dial connects without TLS. Its error is as that of Connect.
func (d *Dialer) dial(ctx context.Context, address string, took *Timings) (net.Conn, error) {
	began := time.Now()
	conn, err := d.dialer()(traceResolve(ctx, &took.Resolve), "tcp", address)
	took.Dial = time.Since(began) - took.Resolve
	if err != nil {
		return nil, d.dialError(winsock.POSIX(err))
	}
	return conn, nil
}

func (d *Dialer) dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	if d.DialContext != nil {
		return d.DialContext
	}
	dialer := &net.Dialer{KeepAliveConfig: netconn.KeepAlive, Timeout: dialTimeout}
	if d.SOCKS != nil {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			return d.SOCKS.dial(ctx, dialer, address)
		}
	}
	return dialer.DialContext
}

// traceResolve measures how long a dialer takes to resolve a name.
func traceResolve(ctx context.Context, took *time.Duration) context.Context {
	var began time.Time
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // package net calls these, too
		DNSStart: func(httptrace.DNSStartInfo) { began = time.Now() },
		DNSDone:  func(httptrace.DNSDoneInfo) { *took = time.Since(began) },
	})
}

// startTLS requests TLS in PostgreSQL's way, or starts it at once. Afterwards nothing is sent or
// read outside it.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func (d *Dialer) startTLS(ctx context.Context, conn *netconn.Conn, all bool) error {
	if !d.DirectTLS {
		if err := d.requestTLS(ctx, conn); err != nil {
			return err
		}
	}
	if err := conn.StartTLS(ctx, tls.Client(conn.Socket(), d.tlsConfig(all))); err != nil {
		return d.handshakeError(err)
	}
	if state, _ := conn.ConnectionState(); d.DirectTLS && state.NegotiatedProtocol != pgwire.ALPN {
		return d.directTLSError(errors.New("server did not negotiate the ALPN protocol"))
	}
	return nil
}

// requestTLS sends an SSLRequest and reads exactly one byte: the bytes after it belong to
// the handshake, so that nothing sent unencrypted is taken for a message of the server
// (CVE-2021-23222). For the same reason the text of an error that comes instead is not
// shown (CVE-2024-10977).
func (d *Dialer) requestTLS(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(netconn.LongAgo) })()
	if _, err := conn.Write(pgwire.Encode(&pgproto3.SSLRequest{})); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case 'S':
		return nil
	case 'N':
		return d.newError(pgwire.TLSNotOffered, nil, d.Name())
	case 'E':
		return d.newError(pgwire.TLSRequestRejected, nil, d.Name())
	default:
		return d.newError(pgwire.TLSRequestUnknown, nil, d.Name(), answer[0])
	}
}
