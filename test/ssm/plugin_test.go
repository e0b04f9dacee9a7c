// Package ssm_test runs AWS's own client of Session Manager, the plugin, against the fakes
// of Session Manager and its agent, so that they behave as AWS does. `make ssm` compiles the
// plugin.
package ssm_test

import (
	"net"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// dial connects to the listener of the plugin.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestPlugin shows that AWS's plugin takes the fakes for AWS: one connection, several at
// once, each whole in both directions, with agents of several versions.
func TestPlugin(t *testing.T) {
	for name, agent := range map[string]fakessm.Agent{
		"current agent":                   {},
		"agent with keep-alive":           {Version: "3.1.1511.0"},
		"agent without multiplexing":      {Version: "3.0.196.0"},
		"first agent with multiplexing":   {Version: "3.0.222.0"},
		"current agent without its sleep": {NoSleep: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, agent)
			address := w.plugin(t)
			if err := transfer(dial(t, address), 200_000); err != nil {
				t.Fatal(err)
			}
			if agent.Version == "3.0.196.0" {
				return
			}
			var wg sync.WaitGroup
			for range 10 {
				conn := dial(t, address)
				wg.Go(func() {
					if err := transfer(conn, 20_000); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}
