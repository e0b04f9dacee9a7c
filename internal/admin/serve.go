package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
)

// defaultAddress is the address of the admin server unless --admin is given.
const defaultAddress = "127.0.0.1:9090"

// Off is the value of --admin for no admin server.
const Off = "off"

// ParseAddress parses the value of --admin, HOST:PORT or PORT. It returns the default address for an
// empty text, and an empty address for off.
func ParseAddress(text string) (address string, err error) {
	switch text {
	case "":
		return defaultAddress, nil
	case Off:
		return "", nil
	}
	return parseAddress("--admin", text)
}

// ParseStatus parses the value of --status, HOST:PORT or PORT. It returns an empty address for an empty
// text and for off, and admin if the two are the same address.
func ParseStatus(text, admin string) (address string, err error) {
	if text == "" || text == Off {
		return "", nil
	}
	address, err = parseAddress("--status", text)
	if err != nil || admin == "" {
		return address, err
	}
	host, port := splitAddress(address)
	adminHost, adminPort := splitAddress(admin)
	switch {
	case port != adminPort:
		return address, nil
	case host == adminHost:
		return admin, nil
	case port != "0" && (host.IsUnspecified() || adminHost.IsUnspecified()):
		return "", fmt.Errorf("--status %s: --admin %s uses the same port; give --status another port, or the address of --admin", text, admin)
	}
	return address, nil
}

// parseAddress returns HOST:PORT for the value of a flag. The port alone is that of 127.0.0.1.
func parseAddress(flag, text string) (address string, err error) {
	address = text
	if _, err := strconv.ParseUint(text, 10, 64); err == nil {
		address = net.JoinHostPort("127.0.0.1", text)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%s %s: neither HOST:PORT nor off", flag, text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%s %s: %q is not a port", flag, text, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" && host != "" {
		return "", fmt.Errorf("%s %s: %q is neither localhost nor an address", flag, text, host)
	}
	return address, nil
}

// splitAddress splits an address that parseAddress has returned. All unspecified hosts are the
// same: net.Listen listens on both protocols.
func splitAddress(text string) (host netip.Addr, port string) {
	name, port, _ := net.SplitHostPort(text)
	host, err := netip.ParseAddr(name)
	switch {
	case name == "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), port
	case err != nil || host.IsUnspecified():
		return netip.IPv6Unspecified(), port
	}
	return host.Unmap(), port
}

// Listen opens the listener for the value of a flag, or takes it over from systemd.
func Listen(ctx context.Context, activated *listen.Activated, flag, address string) (net.Listener, error) {
	if listener := activated.Take("tcp", address); listener != nil {
		return listener, nil
	}
	var config net.ListenConfig
	host, _, _ := net.SplitHostPort(address)
	listener, err := config.Listen(ctx, listen.TCPNetwork(host), address)
	switch {
	case listen.IsInUse(err):
		return nil, fmt.Errorf("%s %s: %w; another program uses it; choose another one, such as %[1]s %[4]s", flag, address, listen.BindError(err), otherPort(address))
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", flag, address, listen.BindError(err))
	case strings.HasPrefix(address, "localhost:") && !listen.IsLoopback(listener.Addr()): // by the hosts file
		listener.Close()
		return nil, fmt.Errorf("%s %s: it is %s, not a loopback address", flag, address, listener.Addr())
	}
	return listener, nil
}

// otherPort returns an address with another port, the same for each process with that address.
func otherPort(address string) string {
	const step = 10000
	host, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	if number += step; number > math.MaxUint16 {
		number -= 2 * step
	}
	return net.JoinHostPort(host, strconv.Itoa(number))
}

// Serve serves HTTP until stop is called: health and metrics on admin, and the status page on
// status. Either may be nil. The listeners share maxConns connections. stop waits a second for
// requests in progress: the client of POST /shutdown gets its response.
func (s *Server) Serve(admin, status net.Listener, maxConns int, log *zap.Logger) (stop func()) {
	var servers []*http.Server
	var fields []zap.Field
	if admin != nil && status != nil {
		maxConns = max(1, maxConns/2)
	}
	start := func(listener net.Listener, handler http.Handler) {
		server := newHTTPServer(handler, log)
		servers = append(servers, server)
		go func() {
			if err := server.Serve(netutil.LimitListener(listener, maxConns)); !errors.Is(err, http.ErrServerClosed) {
				log.Error("stopped serving HTTP", zap.Stringer("address", listener.Addr()), zap.Error(err))
			}
		}()
	}
	switch {
	case status != nil:
		s.PageURL = urlOf(status)
	case admin != nil && s.PageOnAdmin:
		s.PageURL = urlOf(admin)
	}
	if admin != nil {
		fields = append(fields, zap.String("admin", urlOf(admin)))
		start(admin, s.Handler())
	}
	if status != nil {
		start(status, s.PageHandler())
	}
	pageLine := ""
	if s.PageURL != "" {
		pageLine = "  status page  " + s.PageURL
		fields = append(fields, zap.String("status_page", s.PageURL))
	}
	if len(servers) > 0 {
		log.Info("serving HTTP", append(fields, logging.TextForConsole(pageLine))...)
	}
	return func() { shutdown(servers) }
}

// shutdown stops servers, and waits a second for requests in progress.
func shutdown(servers []*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var stopped sync.WaitGroup
	for _, server := range servers {
		stopped.Go(func() {
			if server.Shutdown(ctx) != nil {
				server.Close()
			}
		})
	}
	stopped.Wait()
}

func newHTTPServer(handler http.Handler, log *zap.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second, // pprof extends it
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))), // errors of clients are not logged
	}
}

// urlOf returns the URL at which this host reaches a listener.
func urlOf(listener net.Listener) string {
	return "http://" + listen.LocalAddr(listener.Addr()) + "/"
}
