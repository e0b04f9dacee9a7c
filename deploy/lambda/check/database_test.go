//go:build linux

package check

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// database is a stand-in for Aurora, which execution environments reach through a relay in their
// network.
type database struct {
	cluster *aurora.Cluster
	logins  atomic.Int64 // passwords that the server received

	lost atomic.Int64 // number of losses

	mu    sync.Mutex
	conns []net.Conn // of the relay, both sides
}

func startDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{}
	d.cluster = &aurora.Cluster{Given: func(string) { d.logins.Add(1) }}
	if err := d.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// listen listens in a network, and returns the address of the relay there.
func (d *database) listen(t *testing.T, network container.Network) string {
	t.Helper()
	return network.Serve(t, d.relay)
}

func (d *database) relay(client net.Conn) {
	server, err := net.Dial("tcp", d.cluster.Addr())
	if err != nil {
		client.Close()
		return
	}
	d.mu.Lock()
	d.conns = append(d.conns, client, server)
	d.mu.Unlock()
	lost := d.lost.Load()
	go d.copy(server, client, lost)
	d.copy(client, server, lost)
}

// copy copies until the end, and drops the bytes after the next loss.
func (d *database) copy(to, from net.Conn, lost int64) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if d.lost.Load() == lost {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

// lose makes the network drop the packets of all connections, as a NAT does that has forgotten
// them.
func (d *database) lose() { d.lost.Add(1) }

// reset ends all connections with a TCP reset to both sides.
func (d *database) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range d.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	d.conns = nil
}

// terminate ends all sessions of the server, as a restart and idle_session_timeout do.
func (d *database) terminate(t *testing.T) {
	t.Helper()
	d.admin(t, "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1", aurora.IAMUser)
	d.waitSessions(t, 0)
}

// waitSessions waits until the server has n sessions.
func (d *database) waitSessions(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for d.sessions(t) != n {
		if time.Now().After(deadline) {
			t.Fatalf("the server has %d sessions, want %d", d.sessions(t), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sessions returns the number of sessions at the server.
func (d *database) sessions(t *testing.T) int {
	t.Helper()
	return d.admin(t, "select count(*) from pg_stat_activity where usename = $1", aurora.IAMUser)
}

func (d *database) admin(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := d.cluster.Admin(ctx, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
