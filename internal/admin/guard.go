package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard is around all that is served. Who may reach the address may ask, but a page
// in somebody's browser is not somebody.
func guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusForbidden, "a web page of another origin may not do this; use iamproxy shutdown, or curl")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", "iamproxy")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", contentPolicy)
		if names, ok := expected(r); !ok {
			writeText(w, http.StatusMisdirectedRequest, "a web page may have led a name of its own here; call it by "+names)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// expected reports whether the Host is one by which this server may be called. A page's own
// name may be made to lead here (DNS rebinding): then it is of the same origin, and only the
// Host gives it away. On loopback that has to be loopback; elsewhere it is enough that no
// page can have it. Health and metrics are for programs, who call by any name. With it comes
// what to call it by.
func expected(r *http.Request) (names string, ok bool) {
	if isLoopback(localAddr(r)) {
		return "localhost, or a loopback address", namesLoopback(r.Host)
	}
	return "its address", slices.Contains(forPrograms, r.URL.Path) || !isPublic(hostname(r.Host))
}

var forPrograms = []string{"/livez", "/startupz", "/readyz", "/metrics"}

// onLoopback is for what only those on this host may ask. Both ends have to be loopback: a
// proxy in front of a pod may call from there on behalf of anybody. Others are told what to
// do otherwise.
func onLoopback(next http.HandlerFunc, otherwise string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() || !isLoopback(localAddr(r)) {
			writeText(w, http.StatusForbidden, "only over loopback; otherwise "+otherwise)
			return
		}
		next(w, r)
	}
}

func localAddr(r *http.Request) net.Addr {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return local
}

// shutdown begins the drain.
func (s *Server) shutdown(w http.ResponseWriter, _ *http.Request) {
	s.Shutdown()
	writeText(w, http.StatusAccepted, "draining; it ends when its last session has ended")
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// namesLoopback is about a Host header, with or without a port.
func namesLoopback(host string) bool {
	name := hostname(host)
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// hostname is that of a Host header, without a port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), "."))
}

// private are the top-level domains that the public DNS does not have, and never will: of
// RFC 6761, RFC 6762 and ICANN's resolution 2024.07.29.06, and Kubernetes' own.
var private = []string{"localhost", "local", "internal", "test", "svc"}

// isPublic reports whether a name may be somebody's in the public DNS. Addresses and names
// without a dot are nobody's there.
func isPublic(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	dot := strings.LastIndexByte(name, '.')
	return dot >= 0 && !slices.Contains(private, name[dot+1:])
}
