package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/iamproxy/iamproxy/internal/admin"
)

// defaultAdmin is where the admin server listens if nobody says where.
const defaultAdmin = "127.0.0.1:9090"

const adminOff = "off"

// adminAddress reads --admin. It is empty for off.
func adminAddress(text string) (string, error) {
	switch text {
	case "":
		return defaultAdmin, nil
	case adminOff:
		return "", nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", usagef("--admin %s: neither HOST:PORT nor off", text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", usagef("--admin %s: %q is no port", text, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && host != "" {
		return "", usagef("--admin %s: %q is neither localhost nor an address", text, host)
	}
	return text, nil
}

// listenAdmin returns nil if there is to be no admin server. That of somebody else at
// an address that nobody asked for is no reason not to serve clients.
func (c *runCommand) listenAdmin(ctx context.Context, sockets *passedSockets, log *zap.Logger) (net.Listener, error) {
	address, err := adminAddress(c.Admin)
	if err != nil || address == "" {
		return nil, err
	}
	if listener := sockets.take("tcp", address); listener != nil {
		return listener, nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	switch {
	case err == nil && strings.HasPrefix(address, "localhost:") && !isLoopback(listener.Addr()):
		defer listener.Close()
		return nil, usagef("--admin %s: it is %s, not a loopback address", address, listener.Addr())
	case err == nil:
		return listener, nil
	case c.Admin == "":
		log.Warn("there is no health, status page or metrics, and `iamproxy wait` asks whoever has the port; --admin says where, or off", zap.Error(err))
		return nil, nil
	default:
		return nil, fmt.Errorf("--admin %s: %w", address, err)
	}
}

// serveAdmin answers those who watch, so many at once, until the function that it returns is called.
func serveAdmin(watched *admin.Server, listener net.Listener, conns int, log *zap.Logger) (end func()) {
	if listener == nil {
		return func() {}
	}
	server := &http.Server{
		Handler:           watched.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // pprof takes what it needs
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // what clients do wrong is theirs
	}
	log.Info("health, status page and metrics", zap.String("admin", "http://"+reachable(listener.Addr().String())+"/"))
	go serveHTTP(server, netutil.LimitListener(listener, conns), log)
	return func() { endHTTP(server) }
}

// endHTTP gives whoever has asked for the end time to hear that it has begun.
func endHTTP(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		server.Close()
	}
}

func serveHTTP(server *http.Server, listener net.Listener, log *zap.Logger) {
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("no health, status page or metrics any more", zap.Error(err))
	}
}

// errNotOurs is about whatever else listens where iamproxy's admin server should.
var errNotOurs = errors.New("what answers there is not iamproxy; --admin has to be that of run")

// askAdmin sends one request to the admin server of the iamproxy on this host.
func askAdmin(ctx context.Context, method, address, path string) (status int, body string, err error) {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+reachable(address)+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	if response.Header.Get("Server") != "iamproxy" {
		return 0, "", errNotOurs
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return response.StatusCode, string(b), err
}

// reachable is where a listener is reached from this host that listens everywhere.
func reachable(address string) string {
	host, port, _ := net.SplitHostPort(address)
	switch ip, err := netip.ParseAddr(host); {
	case host == "":
		return net.JoinHostPort("localhost", port)
	case err == nil && ip.IsUnspecified() && ip.Is4():
		return net.JoinHostPort("127.0.0.1", port)
	case err == nil && ip.IsUnspecified():
		return net.JoinHostPort("::1", port)
	}
	return address
}

// Run asks the iamproxy on this host to drain and end. It does not wait for that.
func (c *shutdownCommand) Run(ctx context.Context) error {
	address, err := adminAddress(c.Admin)
	switch {
	case err != nil:
		return err
	case address == "":
		return usagef("--admin off: there is nobody to ask; send the process a SIGTERM")
	}
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	status, body, err := askAdmin(ctx, http.MethodPost, address, "/shutdown")
	switch {
	case err != nil:
		return fmt.Errorf("no iamproxy could be asked at %s: %w", address, err)
	case status != http.StatusAccepted:
		return fmt.Errorf("the iamproxy at %s does not shut down: %s", address, strings.TrimSpace(body))
	}
	return nil
}

// shutdownTimeout is for the answer, which comes at once.
const shutdownTimeout = 10 * time.Second
