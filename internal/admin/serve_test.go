package admin

import (
	"net"
	"testing"

	"go.uber.org/zap"
)

// The client of POST /shutdown gets its response even if the server stops at once.
func TestShutdownResponse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var stop func()
	stopped := make(chan struct{})
	server := &Server{Draining: func() bool { return true }, Shutdown: func() {
		go func() {
			defer close(stopped)
			stop()
		}()
		for { // until the listener is closed
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			conn.Close()
		}
	}}
	stop = server.Serve(listener, 128, zap.NewNop())
	if answer, err := (Client{Address: listener.Addr().String()}).Shutdown(t.Context()); err != nil || answer != "draining, 0 sessions open" {
		t.Errorf("answer %q, %v", answer, err)
	}
	<-stopped
}
