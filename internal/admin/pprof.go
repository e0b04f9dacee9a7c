package admin

import (
	"net/http"
	"net/http/pprof"
)

// profiles are those of net/http/pprof, but for cmdline: in the arguments there may be
// the password of a SOCKS proxy. Importing it puts all of them into http.DefaultServeMux,
// which nobody serves. They cost time and memory, and are for those on this host only.
func profiles(mux *http.ServeMux) {
	const forward = "forward the port, and ask at localhost"
	mux.HandleFunc("GET /debug/pprof/", onLoopback(pprof.Index, forward))
	mux.HandleFunc("GET /debug/pprof/profile", onLoopback(pprof.Profile, forward))
	mux.HandleFunc("GET /debug/pprof/trace", onLoopback(pprof.Trace, forward))
	mux.HandleFunc("GET /debug/pprof/symbol", onLoopback(pprof.Symbol, forward))
	mux.HandleFunc("POST /debug/pprof/symbol", onLoopback(pprof.Symbol, forward))
}
