package proxy

import (
	"context"
	"crypto/tls"
	"net"
)

// Reached is a connection to the server, made as for a session, on which nobody logs
// in. It is for finding out how far the way to the server goes; Close ends it.
type Reached struct {
	// Address is of what was dialled: the server, Via, or the SOCKS proxy.
	Address net.Addr

	proxy *Proxy
	conn  net.Conn
}

// Reach connects to the server, without TLS so far. The error is what a client would
// be told; it may have a method Advice() string that says what to do.
func (p *Proxy) Reach(ctx context.Context) (*Reached, error) {
	p.start()
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, err := p.dial(ctx, p.address(), &Login{})
	if err != nil {
		return nil, p.failure(p.dialError(err))
	}
	return &Reached{Address: conn.RemoteAddr(), proxy: p, conn: conn}, nil
}

// StartTLS begins TLS, verifies the server, and returns what was agreed on. The error
// is as Reach's.
func (r *Reached) StartTLS(ctx context.Context) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	secure, err := r.proxy.startTLS(ctx, r.conn)
	if err != nil {
		return tls.ConnectionState{}, r.proxy.failure(err)
	}
	return secure.ConnectionState(), nil
}

// Close leaves.
func (r *Reached) Close() error { return r.conn.Close() }
