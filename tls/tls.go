// Package tls makes the TLS configurations that iamproxy uses, and holds the
// root certificates of Amazon RDS.
package tls

import (
	"crypto/tls"
	"crypto/x509"
)

// Upstream is the configuration for connections to the database called
// serverName, which is both sent (SNI) and verified. The address that is
// dialled has no say in it. There is deliberately no way to switch
// verification off: the token is sent in clear inside this connection.
func Upstream(serverName string, roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		ServerName: serverName,
		RootCAs:    roots,
		MinVersion: tls.VersionTLS12,
	}
}
