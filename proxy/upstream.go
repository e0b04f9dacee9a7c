package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

const (
	// dialTimeout bounds one attempt to connect: a name may lead elsewhere the
	// next time.
	dialTimeout = 5 * time.Second
	// reachTimeout bounds it together with TLS; behind Dial, which may take its time, TLS alone.
	reachTimeout = 10 * time.Second
)

// upstream is a connection to the server, inside TLS that was verified.
type upstream struct {
	*netconn.Conn
	address string      // where this very server is dialled again
	detach  func() bool // takes back what happens to it at a shutdown
	spare   *spare      // nil if it cannot be another client's
}

// connect dials the address and starts TLS. Everything it does is bounded by
// ctx, whose deadline what it returns still has; that is closed when the proxy
// stops. How long the steps took is noted in took.
func (p *Proxy) connect(ctx context.Context, address string, took *stats.LoginTimings) (*upstream, error) {
	deadline, _ := ctx.Deadline()
	if p.Dial == nil {
		within, cancel := context.WithTimeout(ctx, reachTimeout)
		defer cancel()
		ctx = within
	}
	tcp, err := p.dial(ctx, address, took)
	if err != nil {
		return nil, p.dialError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, began := netconn.New(tcp), time.Now()
	conn.Socket().SetUserTimeout()
	secure, err := p.startTLS(ctx, conn.Socket())
	if err == nil {
		err = conn.StartTLS(ctx, secure)
	}
	if err != nil {
		tcp.Close()
		return nil, err
	}
	took.TLS = time.Since(began)
	tcp.SetDeadline(deadline) // of the login
	server := &upstream{Conn: conn, address: tcp.RemoteAddr().String()}
	if p.SOCKS != nil {
		server.address = address // as the proxy resolves it
	}
	server.detach = context.AfterFunc(p.ctx, func() { conn.Close() })
	return server, nil
}

func (p *Proxy) dial(ctx context.Context, address string, took *stats.LoginTimings) (conn net.Conn, err error) {
	began := time.Now()
	took.Resolve = 0
	ctx = noteResolve(ctx, &took.Resolve)
	defer func() { took.Dial = time.Since(began) - took.Resolve }()
	if p.Dial != nil {
		return p.Dial(ctx, "tcp", address)
	}
	dialer := &net.Dialer{KeepAliveConfig: netconn.KeepAlive, Timeout: dialTimeout}
	if p.SOCKS != nil {
		return p.SOCKS.dial(ctx, dialer, address)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// noteResolve has the dialer of ctx note how long it takes to look up a name.
func noteResolve(ctx context.Context, took *time.Duration) context.Context {
	var began time.Time
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // which package net knows, too
		DNSStart: func(httptrace.DNSStartInfo) { began = time.Now() },
		DNSDone:  func(httptrace.DNSDoneInfo) { *took = time.Since(began) },
	})
}

// startTLS asks for TLS in PostgreSQL's way, or just begins with it, and goes on
// only inside it.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
func (p *Proxy) startTLS(ctx context.Context, tcp net.Conn) (*tls.Conn, error) {
	if !p.DirectTLS {
		if err := p.requestTLS(ctx, tcp); err != nil {
			return nil, err
		}
	}
	conn := tls.Client(tcp, p.serverTLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, p.handshakeError(err)
	}
	if p.DirectTLS && conn.ConnectionState().NegotiatedProtocol != pgwire.ALPN {
		return nil, p.noDirectTLS(errors.New("the server does not name the protocol (ALPN)"))
	}
	return conn, nil
}

// requestTLS reads exactly one byte in answer: what stands behind it belongs to
// the handshake, and nothing sent in clear is ever taken for the server's word
// (CVE-2021-23222). For the same reason the text of an error that comes instead
// is not shown (CVE-2024-10977).
func (p *Proxy) requestTLS(ctx context.Context, tcp net.Conn) error {
	defer context.AfterFunc(ctx, func() { tcp.SetDeadline(netconn.LongAgo) })()

	if _, err := tcp.Write(pgwire.Encode(&pgproto3.SSLRequest{})); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(tcp, answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case 'S':
		return nil
	case 'N':
		return pgwire.NewError(pgwire.TLSNotOffered, nil, p.target())
	case 'E':
		return pgwire.NewError(pgwire.TLSRequestRejected, nil, p.target())
	default:
		return pgwire.NewError(pgwire.TLSRequestUnknown, nil, p.target(), answer[0])
	}
}

// Close tells the server that no more comes, and closes.
func (u *upstream) Close() error {
	u.detach()
	return u.Conn.Close()
}
