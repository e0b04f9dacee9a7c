package proxy

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// Reached is a connection to the server, made as for a session, on which nobody logs
// in. Close ends it.
type Reached struct {
	// Address is of what was dialled: the server, Via, or the SOCKS proxy.
	Address net.Addr

	proxy *Proxy
	conn  net.Conn
}

// Reach connects to the server, without TLS so far. It ends with ctx. The error may have a
// method Advice() string that says what to do.
func (p *Proxy) Reach(ctx context.Context) (*Reached, error) {
	p.start()
	conn, err := p.dial(ctx, p.address(), &stats.LoginTimings{})
	if err != nil {
		return nil, p.unreached(p.dialError(err))
	}
	return &Reached{Address: conn.RemoteAddr(), proxy: p, conn: conn}, nil
}

// StartTLS begins TLS and verifies the server. What it returns is the same connection,
// inside TLS. The error is as Reach's.
func (r *Reached) StartTLS(ctx context.Context) (*tls.Conn, error) {
	conn, err := r.proxy.startTLS(ctx, r.conn)
	if err != nil {
		return nil, r.proxy.unreached(err)
	}
	return conn, nil
}

// Close leaves.
func (r *Reached) Close() error { return r.conn.Close() }

// Connect is Reach and StartTLS.
func (p *Proxy) Connect(ctx context.Context) (net.Conn, error) {
	reached, err := p.Reach(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := reached.StartTLS(ctx)
	if err != nil {
		reached.Close()
		return nil, err
	}
	return conn, nil
}

// unreached is err for whoever is no client, and has given a time of their own.
func (p *Proxy) unreached(err error) error {
	if failed := p.failure(err); !netconn.IsTimeout(failed) {
		return failed
	}
	return p.noAnswerBefore(err)
}
