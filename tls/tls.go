// Package tls creates the TLS configurations for connections to the database and
// from clients. It embeds the root certificates of Amazon RDS.
package tls

import (
	"crypto/tls"
	"crypto/x509"
)

// Upstream returns the configuration for connections to a database. serverName is
// sent (SNI) and verified, whatever address is dialed. Verification cannot be
// disabled, since the token is sent as plain text inside the connection.
func Upstream(serverName string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		ServerName: serverName,
		RootCAs:    roots,
		MinVersion: tls.VersionTLS12,
	}
}
