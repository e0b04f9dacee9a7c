package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard is around all that is served. Who may reach the address may ask, but a page
// in somebody's browser is not somebody.
func guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusForbidden, "a web page of another origin may not do this; use iamproxy shutdown, or curl")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", "iamproxy")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", contentPolicy)
		// A page's own name may be made to lead to loopback (DNS rebinding). Then it
		// is of the same origin, and only Host gives it away.
		if local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); isLoopback(local) && !namesLoopback(r.Host) {
			text(w, http.StatusMisdirectedRequest, "on loopback the Host has to be localhost or a loopback address; call it by one of these")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// shutdown begins the drain, for those on this host. Both ends have to be loopback: a
// proxy in front of a pod may call from there on behalf of anybody.
func (s *Server) shutdown(w http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() || !isLoopback(local) {
		text(w, http.StatusForbidden, "only over loopback; otherwise send the process a SIGTERM")
		return
	}
	s.Shutdown()
	text(w, http.StatusAccepted, "draining; it ends when its last session has ended")
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// namesLoopback is about a Host header, with or without a port.
func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && ip.Unmap().IsLoopback()
}
