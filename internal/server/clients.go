package server

import (
	cryptotls "crypto/tls"
	"fmt"
	"os"
	"slices"

	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/tls"
)

// clientTLS returns the TLS configuration for clients, or nil if TLS is off.
func (s *Server) clientTLS() (*cryptotls.Config, error) {
	switch how := s.ListenTLS; {
	case how.SelfSigned:
		names := []string{"localhost", "127.0.0.1", "::1"}
		if host, err := os.Hostname(); err == nil {
			names = append(names, host)
		}
		for _, addr := range slices.Concat(s.Addrs...) {
			if !addr.Unix && addr.Host != "" {
				names = append(names, addr.Host)
			}
		}
		certificate, err := tls.SelfSigned(names...)
		if err != nil {
			return nil, fmt.Errorf("--listen-tls: %w", err)
		}
		return tls.Downstream(func() *cryptotls.Certificate { return certificate }), nil
	case how.Cert != "":
		files := &tls.Files{Cert: how.Cert, Key: how.Key, Log: s.Log}
		if err := files.Load(); err != nil {
			return nil, ConfigError{fmt.Errorf("--listen-tls: %w", err)}
		}
		return tls.Downstream(files.Current), nil
	default:
		return nil, nil
	}
}

// clientAuth returns the requirements for clients. It reads the file of --client-ca.
func (s *Server) clientAuth() (proxy.ClientAuth, error) {
	auth := proxy.ClientAuth{RequireTLS: s.RequireTLS}
	if s.ClientCA == "" {
		return auth, nil
	}
	roots := &tls.ClientCAs{File: s.ClientCA, Log: s.Log}
	if err := roots.Load(); err != nil {
		return auth, ConfigError{fmt.Errorf("--client-ca: %w", err)}
	}
	auth.Roots = roots.Current
	switch s.ClientCertUser {
	case "cn":
		auth.Users = tls.CommonNames
	case "san":
		auth.Users = tls.AltNames
	}
	return auth, nil
}
