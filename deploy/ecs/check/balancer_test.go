//go:build linux

package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iamproxy/iamproxy/test/container"
)

// pace is how much faster the balancer checks the health than a Network Load Balancer.
const pace = 100

// balancer does what a Network Load Balancer does for a target group: it checks the health of
// targets, sends all connections of a source address to one of them, and keeps the address. It is
// also the router between all hosts.
type balancer struct {
	t       *testing.T
	network container.Network
	group   targetGroup

	hosts int // connected

	mu      sync.Mutex
	changed *sync.Cond
	targets []*target
	sticky  map[string]*target // by source address
	next    int
}

// target is a registered target.
type target struct {
	address  string
	results  int // of health checks with the same result, in a row; negative if they failed
	healthy  bool
	draining bool
	accepted int // connections
}

// newBalancer starts a balancer in a network.
func newBalancer(t *testing.T, group targetGroup) *balancer {
	t.Helper()
	b := &balancer{t: t, network: container.NewNetwork(t), group: group, sticky: map[string]*target{}}
	b.changed = sync.NewCond(&b.mu)
	var listener net.Listener
	if err := b.network.Enter(func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf(":%d", group.Port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go b.serve(client)
		}
	}()
	return b
}

// connect connects a host, and returns its address and that of the balancer in its subnet.
func (b *balancer) connect(host container.Network) (address, gateway string) {
	b.t.Helper()
	b.hosts++
	name := fmt.Sprintf("host%d", b.hosts)
	address, gateway = fmt.Sprintf("10.0.%d.2", b.hosts), fmt.Sprintf("10.0.%d.1", b.hosts)
	b.ip(b.network, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host.Path())
	b.ip(b.network, "address", "add", gateway+"/30", "dev", name)
	b.ip(b.network, "link", "set", name, "up")
	b.ip(host, "address", "add", address+"/30", "dev", "eth0")
	b.ip(host, "link", "set", "eth0", "up")
	b.ip(host, "route", "add", "default", "via", gateway)
	return address, gateway
}

// connectTarget connects a host whose packets to clients belong to connections of the balancer.
func (b *balancer) connectTarget(host container.Network) (address string) {
	b.t.Helper()
	address, _ = b.connect(host)
	b.ip(b.network, "rule", "add", "iif", fmt.Sprintf("host%d", b.hosts), "lookup", "100")
	b.ip(b.network, "route", "replace", "local", "default", "dev", "lo", "table", "100")
	return address
}

func (b *balancer) ip(in container.Network, args ...string) {
	b.t.Helper()
	if out, err := container.Run(in.Command(os.Environ(), "ip", args...)); err != nil {
		b.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// register adds a target and checks its health until the end of the test.
func (b *balancer) register(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	added := &target{address: address}
	b.targets = append(b.targets, added)
	go func() {
		ticker := time.NewTicker(time.Duration(b.group.HealthCheckIntervalSeconds) * time.Second / pace)
		defer ticker.Stop()
		for {
			b.note(added, b.healthy(address))
			select {
			case <-b.t.Context().Done():
				return
			case <-ticker.C:
			}
		}
	}()
}

// healthy checks the health of a target.
func (b *balancer) healthy(address string) bool {
	response, err := b.request(address, b.group.HealthCheckPath)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// get returns the body of a path of the port for health checks.
func (b *balancer) get(address, path string) string {
	response, err := b.request(address, path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

func (b *balancer) request(address, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://"+net.JoinHostPort(address, b.group.HealthCheckPort)+path, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{
		Timeout: time.Duration(b.group.HealthCheckTimeoutSeconds) * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return b.dial(address, nil)
		}},
	}
	return client.Do(request)
}

// note records the result of a health check.
func (b *balancer) note(t *target, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case ok:
		t.results = max(t.results, 0) + 1
	default:
		t.results = min(t.results, 0) - 1
	}
	if t.results >= b.group.HealthyThresholdCount {
		t.healthy = true
	}
	if -t.results >= b.group.UnhealthyThresholdCount {
		t.healthy = false
	}
	b.changed.Broadcast()
}

// await waits until a target is healthy, or until it is not.
func (b *balancer) await(address string, healthy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for end := time.Now().Add(time.Minute); b.find(address).healthy != healthy; b.changed.Wait() {
		if time.Now().After(end) {
			b.t.Fatalf("the health of %s is not %v: %+v", address, healthy, b.find(address))
		}
	}
}

// deregister makes a target drain: it keeps its connections, and gets no new ones.
func (b *balancer) deregister(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.find(address).draining = true
}

// accepted returns the number of connections that a target was sent.
func (b *balancer) accepted(address string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.find(address).accepted
}

// find returns a target. b.mu is held.
func (b *balancer) find(address string) *target {
	for _, t := range b.targets {
		if t.address == address {
			return t
		}
	}
	panic("no target " + address)
}

// choose returns the target for a connection from source, or nil.
func (b *balancer) choose(source string) *target {
	b.mu.Lock()
	defer b.mu.Unlock()
	usable := func(t *target) bool { return t != nil && t.healthy && !t.draining }
	chosen := b.sticky[source]
	if b.group.attributes()["stickiness.enabled"] != "true" || !usable(chosen) {
		chosen = nil
		for i := range b.targets {
			if t := b.targets[(b.next+i)%len(b.targets)]; usable(t) {
				chosen, b.next = t, b.next+i+1
				break
			}
		}
		b.sticky[source] = chosen
	}
	if chosen != nil {
		chosen.accepted++
	}
	return chosen
}

// serve relays a connection until both sides have closed it.
func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	source := client.RemoteAddr().(*net.TCPAddr)
	t := b.choose(source.IP.String())
	if t == nil {
		return
	}
	if b.group.attributes()["preserve_client_ip.enabled"] != "true" {
		source = nil
	}
	server, err := b.dial(fmt.Sprintf("%s:%d", t.address, b.group.Port), source)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	relay := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { relay(server, client) })
	both.Go(func() { relay(client, server) })
	both.Wait()
}

// dial connects to an address from the network of the balancer, with the address of source if any.
func (b *balancer) dial(address string, source *net.TCPAddr) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if source != nil {
		dialer.LocalAddr = source
		dialer.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			if failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) }); failed != nil {
				return failed
			}
			return err
		}
	}
	err = b.network.Enter(func() (err error) {
		conn, err = dialer.DialContext(b.t.Context(), "tcp4", address)
		return err
	})
	return conn, err
}
