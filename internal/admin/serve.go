package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/iamproxy/iamproxy/internal/listen"
)

// defaultAddress is the address of the admin server unless --admin is given.
const defaultAddress = "127.0.0.1:9090"

// Off is the value of --admin for no admin server.
const Off = "off"

// ParseAddress parses HOST:PORT. It returns the default address for an empty text, and an empty
// address for off.
func ParseAddress(text string) (address string, err error) {
	switch text {
	case "":
		return defaultAddress, nil
	case Off:
		return "", nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", fmt.Errorf("--admin %s: neither HOST:PORT nor off", text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("--admin %s: %q is no port", text, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && host != "" {
		return "", fmt.Errorf("--admin %s: %q is neither localhost nor an address", text, host)
	}
	return text, nil
}

// Serve serves HTTP on listener, with at most maxConns connections, until stop is called. stop
// waits a second for requests in progress: the client of POST /shutdown gets its response.
func (s *Server) Serve(listener net.Listener, maxConns int, log *zap.Logger) (stop func()) {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // pprof extends it
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // errors of clients are not logged
	}
	log.Info("health, status page and metrics", zap.String("admin", "http://"+listen.LocalAddr(listener.Addr())+"/"))
	go func() {
		if err := server.Serve(netutil.LimitListener(listener, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("no health, status page or metrics any more", zap.Error(err))
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	}
}
