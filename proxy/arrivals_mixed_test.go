package proxy

import (
	"testing"
	"time"
)

// Who said at once what it wants loses nothing to those who say nothing, however long it
// had to wait for its place.
func TestClientsBehindSilentOnes(t *testing.T) {
	const silent, clients = 4, 60
	ca, s := good(t, func(p *peer) { p.logIn(); p.echo() })
	p, address := start(t, ca, s, few(silent, 100*time.Millisecond))
	for range silent {
		dial(t, address)
	}
	until(t, "them to arrive", func() bool { return p.arrived() == silent })
	for range clients {
		client := dial(t, address)
		client.send(ordinaryStartup)
		for range silent {
			dial(t, address)
		}
	}
	until(t, "all of them to be in", func() bool { return p.Counts().Results[ResultOK] == clients })
}
