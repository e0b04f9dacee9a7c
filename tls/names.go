package tls

import "crypto/x509"

// oidCommonName is the attribute of a subject that CommonNames returns.
const oidCommonName = "2.5.4.3"

// CommonNames returns the common name of a certificate's subject. It returns none if there are
// several, of which other programs may use another one.
func CommonNames(c *x509.Certificate) []string {
	n := 0
	for _, attribute := range c.Subject.Names {
		if attribute.Type.String() == oidCommonName {
			n++
		}
	}
	if n != 1 || c.Subject.CommonName == "" {
		return nil
	}
	return []string{c.Subject.CommonName}
}

// AltNames returns the alternative names of a certificate that may name a client: its DNS names,
// email addresses and URIs. It does not return IP addresses.
func AltNames(c *x509.Certificate) []string {
	var names []string
	names = append(append(names, c.DNSNames...), c.EmailAddresses...)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	return names
}
