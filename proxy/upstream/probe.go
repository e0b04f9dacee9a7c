package upstream

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/iamproxy/iamproxy/proxy/netconn"
)

// Probe is a connection to the server on which there is no login. It is made like the
// connection of a session, step by step.
type Probe struct {
	// Address is that of what was dialed: the server, Via, or the SOCKS proxy.
	Address net.Addr

	dialer *Dialer
	conn   *netconn.Conn
}

// Probe dials the database. The error is an *pgwire.Error.
func (d *Dialer) Probe(ctx context.Context) (*Probe, error) {
	conn, err := d.dial(ctx, d.address(), &Timings{})
	if err != nil {
		return nil, d.AsError(err)
	}
	return &Probe{Address: conn.RemoteAddr(), dialer: d, conn: netconn.New(conn)}, nil
}

// StartTLS starts TLS and verifies the server. The error is an *pgwire.Error.
func (p *Probe) StartTLS(ctx context.Context) (tls.ConnectionState, error) {
	if err := p.dialer.startTLS(ctx, p.conn, p.dialer.AllRoots != nil); err != nil {
		return tls.ConnectionState{}, p.dialer.AsError(err)
	}
	state, _ := p.conn.ConnectionState()
	return state, nil
}

// Close closes the connection.
func (p *Probe) Close() error { return p.conn.Close() }
