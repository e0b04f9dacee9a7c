package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/internal/text"
)

// guard wraps the handler of all paths. It sets security headers, and rejects requests that
// a web page of another origin sends, or that name a host which may be a web page's own.
func guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusForbidden, "request of a web page of another origin rejected; use iamproxy shutdown, or curl")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", "iamproxy")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", contentPolicy)
		if !isAllowedHost(r) {
			writeText(w, http.StatusMisdirectedRequest,
				"open http://"+allowedHost(r)+"/ instead: this page is not served under other host names (protection against DNS rebinding)")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isAllowedHost reports whether the Host header of a request is allowed. It is the protection
// against DNS rebinding: a page whose own name resolves to this server is of the same origin,
// and only the Host header reveals it. On loopback the host has to be loopback. Elsewhere it
// must not be a public name, except for the paths that programs request.
func isAllowedHost(r *http.Request) bool {
	if isLoopback(localAddr(r)) {
		return isLoopbackHost(r.Host)
	}
	return slices.Contains(programPaths, r.URL.Path) || !isPublicName(hostname(r.Host))
}

// allowedHost returns an allowed Host header. It has the port of the request's, which may be
// that of a port forward.
func allowedHost(r *http.Request) string {
	host, port, err := net.SplitHostPort(fmt.Sprint(localAddr(r)))
	if err != nil {
		return "localhost"
	}
	if isLoopback(localAddr(r)) {
		host = "localhost"
	}
	if _, requested, err := net.SplitHostPort(r.Host); err == nil {
		if _, err := strconv.ParseUint(requested, 10, 16); err == nil {
			port = requested
		}
	}
	return net.JoinHostPort(host, port)
}

var programPaths = []string{"/livez", "/startupz", "/readyz", "/metrics"}

// loopbackOnly rejects requests of other hosts, with remedy in the response. Both addresses
// have to be loopback: a proxy in front of a pod may forward requests from a loopback address.
func loopbackOnly(next http.HandlerFunc, remedy string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() || !isLoopback(localAddr(r)) {
			writeText(w, http.StatusForbidden, "loopback only; from elsewhere, "+remedy)
			return
		}
		next(w, r)
	}
}

func localAddr(r *http.Request) net.Addr {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local
}

// shutdown starts the drain.
func (s *Server) shutdown(w http.ResponseWriter, _ *http.Request) {
	s.Shutdown()
	open := 0
	for _, e := range s.Endpoints {
		open += e.Database.Counts().Sessions
	}
	writeText(w, http.StatusAccepted, "draining, "+text.Plural(open, "session")+" open")
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// isLoopbackHost reports whether a Host header is localhost or a loopback address.
func isLoopbackHost(host string) bool {
	name := hostname(host)
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// hostname returns a Host header without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "."))
}

// privateDomains are top-level domains that will never be in the public DNS, by RFC 6761,
// RFC 6762 and ICANN's resolution 2024.07.29.06, and the svc of Kubernetes.
var privateDomains = []string{"localhost", "local", "internal", "test", "svc"}

// isPublicName reports whether a name may be registered in the public DNS. Addresses and names
// without a dot may not.
func isPublicName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	dot := strings.LastIndexByte(name, '.')
	return dot >= 0 && !slices.Contains(privateDomains, name[dot+1:])
}
