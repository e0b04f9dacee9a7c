package server

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/peercred"
)

// Config holds the parsed flags of a server. The names of the flags are those of iamproxy run, whose
// help describes them.
type Config struct {
	Endpoints []endpoint.Endpoint
	Addrs     [][]listen.Addr // of each endpoint, one or more; clients are shown the first

	SocketMode     os.FileMode
	AllowFrom      []netip.Prefix // nil if every address may connect; listeners are on loopback then
	AllowUser      peercred.Users
	ListenTLS      ListenTLS
	RequireTLS     bool
	ClientCA       string // file
	ClientCertUser string // cn, san or off

	CAFile         string
	ConnectTimeout time.Duration
	ConnectRate    float64
	Fleet          bool // many processes like this one share the databases
	MaxSessions    int

	DrainMin, DrainMax time.Duration

	Admin  string // empty if off
	Status string // empty if off; equal to Admin for the same address
	// DefaultAdmin and DefaultStatus report that the addresses are not given. The server then also
	// runs without them.
	DefaultAdmin, DefaultStatus bool
	Pprof                       bool
}

// ListenTLS is the value of --listen-tls. The zero value is off.
type ListenTLS struct {
	SelfSigned bool
	Cert, Key  string // files
}

// ConfigError is an error of the configuration that a file or the system shows.
type ConfigError struct{ error }

// Unwrap returns the error.
func (e ConfigError) Unwrap() error { return e.error }

// ParseAddrs returns the address of each endpoint: that of its key listen, or else the next
// free port, beginning with first. The port of a unix socket is part of its name.
func ParseAddrs(endpoints []endpoint.Endpoint, first string) ([][]listen.Addr, error) {
	next, err := listen.ParseAddr(first)
	if err != nil {
		return nil, err
	}
	var addrs [][]listen.Addr
	taken := make(map[string]bool)
	for _, e := range endpoints {
		addr := next
		if e.Listen != "" {
			if addr, err = listen.ParseAddr(e.Listen); err != nil {
				return nil, err
			}
		} else {
			if next.Port > 65535 {
				return nil, fmt.Errorf("--listen %s: no port is left for %s", first, e.Host)
			}
			if next.Port != 0 { // 0 is any free port
				next.Port++
			}
		}
		for _, address := range addr.Addresses() {
			if taken[address] && addr.Port != 0 {
				return nil, fmt.Errorf("listen address %s: two endpoints have it", addr)
			}
			taken[address] = true
		}
		addrs = append(addrs, []listen.Addr{addr})
	}
	return addrs, nil
}

// ParseListenTLS parses the value of --listen-tls.
func ParseListenTLS(text string) (ListenTLS, error) {
	cert, key, isPair := strings.Cut(text, ",")
	switch {
	case text == "off":
		return ListenTLS{}, nil
	case text == "self-signed":
		return ListenTLS{SelfSigned: true}, nil
	case isPair && cert != "" && key != "":
		return ListenTLS{Cert: strings.TrimSpace(cert), Key: strings.TrimSpace(key)}, nil
	default:
		return ListenTLS{}, errors.New("--listen-tls: must be off, self-signed, or two files as CERT.pem,KEY.pem")
	}
}
