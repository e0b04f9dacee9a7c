package tls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"testing"
)

// A certificate names users in the parts of it that a CA sets for a client, and in no others.
func TestNames(t *testing.T) {
	names := func(texts ...string) (all []pkix.AttributeTypeAndValue) {
		for _, text := range texts {
			all = append(all, pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: text})
		}
		return all
	}
	for name, test := range map[string]struct {
		certificate x509.Certificate
		common, alt []string
	}{
		"none":             {},
		"common name":      {x509.Certificate{Subject: pkix.Name{CommonName: "app", Names: names("app")}}, []string{"app"}, nil},
		"two common names": {x509.Certificate{Subject: pkix.Name{CommonName: "app", Names: names("admin", "app")}}, nil, nil},
		"alternative names": {x509.Certificate{
			DNSNames: []string{"app"}, EmailAddresses: []string{"app@example.com"},
			URIs:        []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/app"}},
			IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		}, nil, []string{"app", "app@example.com", "spiffe://example.com/app"}},
	} {
		if got := CommonNames(&test.certificate); !slices.Equal(got, test.common) {
			t.Errorf("%s: common names %q", name, got)
		}
		if got := AltNames(&test.certificate); !slices.Equal(got, test.alt) {
			t.Errorf("%s: alternative names %q", name, got)
		}
	}
}
