//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakedns"
	"github.com/iamproxy/iamproxy/test/netem"
)

const (
	// databaseName is the name of the database, in a DNS zone of the place.
	databaseName = "db.chaos.test"
	// resolver is the address of the name server, on iamproxy's host.
	resolver = "127.0.0.53"
	// keyLife is the life of the role's credentials: so short that they are renewed all the
	// time, as over hours in production.
	keyLife = 12 * time.Second
)

// place is two hosts and the network between them. The database is on this one. On the
// other are iamproxy, its clients, the name server, and the endpoint with the credentials.
type place struct {
	link    *netem.Link
	cluster aurora.Cluster
	aws     fakeaws.AWS
	names   names
	proxy   *process
	crowd   crowd
	dir     string
}

// open makes the place. The caller closes it, even after an error.
func (p *place) open(ctx context.Context, binary string, seed uint64, life time.Duration, flags ...string) (err error) {
	if p.dir, err = os.MkdirTemp("", "iamproxy-chaos-"); err != nil {
		return err
	}
	if p.link, err = netem.New(seed); err != nil {
		return err
	}
	p.cluster.Settings = map[string]string{
		"listen_addresses": "127.0.0.1," + p.link.Here(),
		// Acknowledged writes must survive a crash.
		"synchronous_commit": "on",
		// The server notices in seconds that a client vanished.
		"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3",
	}
	if err := p.cluster.Start(ctx); err != nil {
		return err
	}
	if err := prepareLedger(ctx, &p.cluster); err != nil {
		return err
	}
	if err := p.serveAWS(life); err != nil {
		return err
	}
	if err := p.serveNames(); err != nil {
		return err
	}
	p.proxy = &process{place: p, binary: binary, flags: flags}
	return p.proxy.start(ctx)
}

// serveAWS serves keys at the container's endpoint, which the database accepts.
func (p *place) serveAWS(life time.Duration) (err error) {
	p.aws.Issued = p.cluster.AddKey
	p.aws.SetLife(life)
	if p.aws.Listener, err = p.link.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	return p.aws.Start()
}

func (p *place) serveNames() error {
	conn, err := p.link.ListenPacket("udp", net.JoinHostPort(resolver, "53"))
	if err != nil {
		return err
	}
	p.names.conn, p.names.address = conn, [4]byte(net.ParseIP(p.link.Here()).To4())
	go fakedns.Serve(conn, p.names.answer)
	return os.WriteFile(p.resolvConf(), []byte("nameserver "+resolver+"\n"), 0o644)
}

func (p *place) resolvConf() string { return filepath.Join(p.dir, "resolv.conf") }

// via returns the address of the database for iamproxy.
func (p *place) via() string {
	_, port, _ := net.SplitHostPort(p.cluster.Addr())
	return net.JoinHostPort(databaseName, port)
}

func (p *place) close() error {
	var errs []error
	if p.proxy != nil {
		errs = append(errs, p.proxy.stop())
	}
	errs = append(errs, p.aws.Close(), p.cluster.Close())
	if p.names.conn != nil {
		p.names.conn.Close()
	}
	if p.link != nil {
		errs = append(errs, p.link.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// backends returns the number of the server's processes for clients.
func (p *place) backends(ctx context.Context) (n int, err error) {
	conn, err := p.cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`).Scan(&n)
	return n, err
}

// names is the name server, and its fault.
type names struct {
	conn    net.PacketConn
	address [4]byte

	mu    sync.Mutex
	delay time.Duration
	rcode dnsmessage.RCode
}

func (n *names) set(rcode dnsmessage.RCode, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rcode, n.delay = rcode, delay
}

func (n *names) answer(question dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode) {
	n.mu.Lock()
	rcode, delay := n.rcode, n.delay
	n.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	switch {
	case rcode != dnsmessage.RCodeSuccess:
		return nil, rcode
	case question.Name.String() != databaseName+".":
		return nil, dnsmessage.RCodeNameError
	case question.Type != dnsmessage.TypeA:
		return nil, dnsmessage.RCodeSuccess
	}
	record := &dnsmessage.AResource{A: n.address}
	return []dnsmessage.Resource{{Header: fakedns.Header(question.Name), Body: record}}, dnsmessage.RCodeSuccess
}

// sayWhy adds to err what was being done.
func sayWhy(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
