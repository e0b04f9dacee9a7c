package main

import (
	"net"
	"net/http"
	"testing"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/limits"
)

// Without sessions the end comes at once. Whoever has asked for it is told all the same.
func TestShutdownIsAnswered(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var end func()
	ended := make(chan struct{})
	watched := &admin.Server{Draining: func() bool { return true }, Shutdown: func() {
		go func() {
			defer close(ended)
			end()
		}()
		for { // until it has begun
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			conn.Close()
		}
	}}
	end = serveAdmin(watched, listener, limits.MaxAdminConns, zap.NewNop())
	status, body, err := askAdmin(t.Context(), http.MethodPost, listener.Addr().String(), "/shutdown")
	if status != http.StatusAccepted || err != nil {
		t.Errorf("told %d, %q, %v", status, body, err)
	}
	<-ended
}
