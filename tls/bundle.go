package tls

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// A Bundle is a set of root certificates that AWS publishes for a partition.
type Bundle struct {
	Partition string // such as aws-us-gov; the embedded file has this name
	regions   string // regular expression
	site      string
}

// Bundles lists the published bundles. The addresses of other partitions are not known.
//
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
// https://docs.amazonaws.cn/en_us/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
var Bundles = []Bundle{
	{"aws-cn", `^cn-[a-z]+-[0-9]+$`, "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn"},
	{"aws-us-gov", `^us-gov-[a-z]+-[0-9]+$`, "https://truststore.pki.us-gov-west-1.rds.amazonaws.com"},
	{"aws", `^[a-z]{2}-[a-z]+-[0-9]+$`, "https://truststore.pki.rds.amazonaws.com"}, // matches those of China, too
}

// URL returns the address of the bundle for all regions of the partition.
func (b Bundle) URL() string { return b.site + "/global/global-bundle.pem" }

// has reports whether a region has the form of those of the partition.
func (b Bundle) has(region string) bool {
	matched, _ := regexp.MatchString(b.regions, region) // not compiled before, since only diagnoses use it
	return matched
}

// regionOfIssuer matches the common name of a certificate authority of RDS with its region, such
// as "Amazon RDS eu-west-1 Root CA RSA2048 G1".
var regionOfIssuer = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^Amazon RDS ([a-z]+(?:-[a-z]+)+-[0-9]+) `)
})

// IssuedByRDS reports whether a certificate names an authority of RDS as its issuer, which is
// not verified.
func IssuedByRDS(cert *x509.Certificate) bool {
	return strings.HasPrefix(cert.Issuer.CommonName, "Amazon RDS ")
}

// BundleURL returns the address of the bundle of the region that the issuer of a certificate
// names, or "" if it is unknown.
func BundleURL(cert *x509.Certificate) string {
	region := issuingRegion(cert)
	for _, bundle := range Bundles {
		if bundle.has(region) {
			return bundle.site + "/" + region + "/" + region + "-bundle.pem"
		}
	}
	return ""
}

// issuingRegion returns the region that the issuer of a certificate names, or "".
func issuingRegion(cert *x509.Certificate) string {
	if m := regionOfIssuer().FindStringSubmatch(cert.Issuer.CommonName); m != nil {
		return m[1]
	}
	return ""
}

// embeddedRegions returns the regions with embedded roots.
var embeddedRegions = sync.OnceValue(func() map[string]bool {
	regions := make(map[string]bool)
	for _, file := range embedded() {
		certs, _ := ParseCertificates(file)
		for _, cert := range certs {
			regions[issuingRegion(cert)] = true // a root is its own issuer
		}
	}
	return regions
})

// HasEmbeddedRoots reports whether roots of the region that the issuer of a certificate names
// are embedded.
func HasEmbeddedRoots(cert *x509.Certificate) bool { return embeddedRegions()[issuingRegion(cert)] }

// StrangerAdvice is UntrustedHint for a certificate that does not name RDS as its issuer, without
// the name.
const StrangerAdvice = "Find out who issued it. " + exemptAdvice

// exemptAdvice does not begin with trusting the issuer, which could then read the token and all
// traffic.
const exemptAdvice = "If it is your company's TLS inspection, ask to exempt *.rds.amazonaws.com. Only for a test database, pass the root of the issuer with --ca-file."

// UntrustedHint returns what to do about a server's certificate that leads to no trusted root.
func UntrustedHint(cert *x509.Certificate) string {
	if !IssuedByRDS(cert) {
		return fmt.Sprintf("Find out who issued it (%s). %s", Issuer(cert), exemptAdvice)
	}
	download := "Download the root certificates of RDS for this region, which the RDS User Guide of its partition names, and pass them with --ca-file."
	if url := BundleURL(cert); url != "" {
		download = fmt.Sprintf("Download %s and pass it with --ca-file.", url)
	}
	if HasEmbeddedRoots(cert) {
		return "If --ca-file is set, leave it out: the roots of RDS in " + issuingRegion(cert) + " are built in. Otherwise RDS has a newer one. " + download
	}
	return download
}

// Issuer returns the quoted name of the issuer of a certificate. It may be any text that a
// server sends.
func Issuer(cert *x509.Certificate) string {
	name := []rune(cmp.Or(cert.Issuer.CommonName, cert.Issuer.String()))
	if len(name) > maxIssuer {
		name = append(name[:maxIssuer], '…')
	}
	return strconv.Quote(strings.TrimSpace(string(name)))
}

// maxIssuer is the longest name that is shown, in characters. RFC 5280 limits common names to
// it.
const maxIssuer = 64
