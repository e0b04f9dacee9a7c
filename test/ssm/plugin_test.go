// Package ssm_test runs AWS's own client of Session Manager, the plugin, against the fakes
// of Session Manager and its agent, so that they behave as AWS does. It compares the plugin
// with iamproxy's client. `make ssm` compiles the plugin.
package ssm_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// dialPort connects to the listener of the plugin.
func dialPort(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
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
			address, _ := w.plugin(t)
			if err := transfer(dialPort(t, address), 200_000); err != nil {
				t.Fatal(err)
			}
			if agent.Version == "3.0.196.0" {
				return
			}
			var wg sync.WaitGroup
			for range 10 {
				conn := dialPort(t, address)
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

// The plugin resumes its session after AWS has closed the socket, and its connections go on. It
// loses a connection that sends before that, or whose acknowledgements were lost.
func TestPluginResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fakessm.Agent{})
	address, _ := w.plugin(t)
	conn := dialPort(t, address)
	for resumed := range 3 {
		waitFor(t, w, func(c fakessm.Counts) bool {
			return c.Resumed == resumed && c.Upgrades == resumed+1 && c.OpenSockets == 1
		})
		if err := transfer(conn, 5000); err != nil {
			t.Fatal(err)
		}
		waitFor(t, w, func(c fakessm.Counts) bool { return c.OpenMessages == 0 })
		w.gateway.Bye()
	}
}

// waitFor waits until the gateway's counts are as expected.
func waitFor(t testing.TB, w *world, expected func(fakessm.Counts) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !expected(w.gateway.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", w.gateway.Counts())
		}
	}
}
