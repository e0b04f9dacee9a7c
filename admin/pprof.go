package admin

import (
	"net/http"
	"net/http/pprof"
)

// profiles are those of net/http/pprof, but for cmdline: in the arguments there may be
// the password of a SOCKS proxy. Importing it puts all of them into http.DefaultServeMux,
// which nobody serves.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
}
