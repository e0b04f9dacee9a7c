package admin

import (
	"net/http"
	"net/http/pprof"
)

// handleProfiles registers the profiles of net/http/pprof, for requests over loopback. It omits
// cmdline: the arguments may contain the password of a SOCKS proxy. The import also registers
// all of them with http.DefaultServeMux, which is not served.
func handleProfiles(mux *http.ServeMux) {
	const remedy = "forward the port, and request it from localhost"
	mux.HandleFunc("GET /debug/pprof/", loopbackOnly(pprof.Index, remedy))
	mux.HandleFunc("GET /debug/pprof/profile", loopbackOnly(pprof.Profile, remedy))
	mux.HandleFunc("GET /debug/pprof/trace", loopbackOnly(pprof.Trace, remedy))
	mux.HandleFunc("GET /debug/pprof/symbol", loopbackOnly(pprof.Symbol, remedy))
	mux.HandleFunc("POST /debug/pprof/symbol", loopbackOnly(pprof.Symbol, remedy))
}
