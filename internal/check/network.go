package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
)

// dns is whether what will be dialled has an address here.
func (w *walk) dns(ctx context.Context) result {
	switch {
	case w.Proxy.SOCKS != nil:
		return doesNotApply("the proxy resolves the name: " + w.Proxy.SOCKS.String())
	case w.Proxy.Dial != nil:
		return doesNotApply("the port forward leads there")
	}
	host := w.Host
	if w.Proxy.Via != "" {
		host, _, _ = net.SplitHostPort(w.Proxy.Via)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		w.seen.addresses = []netip.Addr{address}
		return ok("an address, and no name: " + located(address))
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return failed("DNS has no "+host, w.whichNames())
	case err != nil:
		return failed("cannot resolve "+host+": "+err.Error(), inWords("have this host ask name servers that answer; in a VPC that is 169.254.169.253"))
	}
	w.seen.addresses = addresses
	found := host
	if alias, err := net.DefaultResolver.LookupCNAME(ctx, host); err == nil && !strings.EqualFold(strings.TrimSuffix(alias, "."), host) {
		found += " leads to " + strings.TrimSuffix(alias, ".")
	}
	var known []string
	for _, address := range addresses {
		known = append(known, located(address))
	}
	return ok(found + ", " + strings.Join(known, ", "))
}

func located(address netip.Addr) string {
	return address.Unmap().String() + " (" + whereIs(address) + ")"
}

// whereIs is the kind of network of an address.
func whereIs(address netip.Addr) string {
	switch address = address.Unmap(); {
	case address.IsLoopback():
		return "this host"
	case address.IsPrivate() || address.IsLinkLocalUnicast():
		return "private"
	default:
		return "public"
	}
}

// whichNames is the line that shows the names that there are.
func (w *walk) whichNames() string {
	switch {
	case w.Proxy.Via != "":
		return inWords("correct the name in via=, or have this host ask the name servers that know it")
	case w.seen.database != nil:
		return inWords("the database is there: have this host ask name servers that know it; in a VPC that is 169.254.169.253")
	}
	switch w.Name.Kind {
	case auth.Instance:
		return w.awsLine("rds", "describe-db-instances", "--query", "DBInstances[].Endpoint.Address", "--output", "text")
	case auth.RDSProxy:
		return w.awsLine("rds", "describe-db-proxies", "--query", "DBProxies[].Endpoint", "--output", "text")
	case auth.DSQL:
		return w.awsLine("dsql", "list-clusters")
	default:
		return w.awsLine("rds", "describe-db-clusters", "--query", "DBClusters[].[Endpoint,ReaderEndpoint]", "--output", "text")
	}
}

// tcp is whether anything listens.
func (w *walk) tcp(ctx context.Context) result {
	reached, err := w.Proxy.Reach(ctx)
	if err != nil {
		return failed(err.Error(), w.open(ctx, err))
	}
	w.reached = reached
	return ok("connected to " + reached.Address.String())
}

// open is what may open the way.
func (w *walk) open(ctx context.Context, err error) string {
	refused := errors.Is(err, syscall.ECONNREFUSED)
	d := w.seen.database
	switch {
	case w.seen.down:
		return w.start(*d)
	case w.Proxy.SOCKS != nil || w.Proxy.Dial != nil:
		return inWords(text.Advice(err))
	case w.Proxy.Via != "":
		return inWords("start what is to listen at " + w.Proxy.Via + ", such as a port forward, or correct via=")
	case d != nil && d.Port != 0 && fmt.Sprint(d.Port) != w.Port:
		return w.atPort(d.Port)
	case refused:
		return w.state()
	case len(w.seen.addresses) > 0 && isOutside(ctx, w.seen.addresses[0]):
		return w.again("--via", "ssm://INSTANCE_ID")
	default:
		return w.letThrough(ctx)
	}
}

// state is the line that shows how the database is, and at which port.
func (w *walk) state() string {
	name, _, _ := strings.Cut(w.Host, ".")
	d := w.seen.database
	if d != nil && d.InCluster && d.Instance == "" {
		name = d.Identifier
	}
	switch w.Name.Kind {
	case auth.DSQL:
		return w.awsLine("dsql", "get-cluster", "--identifier", name)
	case auth.RDSProxy:
		return w.awsLine("rds", "describe-db-proxies", "--query", "DBProxies[].[Endpoint,Status]", "--output", "text")
	case auth.Instance:
		return w.awsLine("rds", "describe-db-instances", "--db-instance-identifier", name, "--query", "DBInstances[0].[DBInstanceStatus,Endpoint]")
	}
	return w.awsLine("rds", "describe-db-clusters", "--db-cluster-identifier", name, "--query", "DBClusters[0].[Status,Endpoint,Port]")
}

// letThrough is the line that has the database's security group let this host in.
func (w *walk) letThrough(ctx context.Context) string {
	group := "SECURITY_GROUP_ID"
	if d := w.seen.database; d != nil && len(d.SecurityGroups) > 0 {
		group = d.SecurityGroups[0]
	}
	from := "ADDRESS_OF_THIS_HOST/32"
	if len(w.seen.addresses) > 0 {
		if source, known := sourceFor(ctx, w.seen.addresses[0]); known && whereIs(source) == "private" && whereIs(w.seen.addresses[0]) == "private" {
			from = netip.PrefixFrom(source, source.BitLen()).String()
			if source.Is6() { // which the flags for one rule do not take
				return w.awsLine("ec2", "authorize-security-group-ingress", "--group-id", group, "--ip-permissions",
					fmt.Sprintf("IpProtocol=tcp,FromPort=%s,ToPort=%s,Ipv6Ranges=[{CidrIpv6=%s}]", w.Port, w.Port, from))
			}
		}
	}
	return w.awsLine("ec2", "authorize-security-group-ingress", "--group-id", group, "--protocol", "tcp", "--port", w.Port, "--cidr", from)
}

// privateNetworks are told apart: a host in another one than the database is likely to be
// outside of its network (RFC 1918).
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
}

// isOutside reports whether this host is not in the private network that an address is of.
func isOutside(ctx context.Context, database netip.Addr) bool {
	source, known := sourceFor(ctx, database)
	for _, network := range privateNetworks {
		if network.Contains(database.Unmap()) {
			return known && !network.Contains(source)
		}
	}
	return false
}

// sourceFor is this host's address on the way to another. Nothing is sent.
func sourceFor(ctx context.Context, to netip.Addr) (netip.Addr, bool) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return local.AddrPort().Addr().Unmap().WithZone(""), true
}

// tls is whether what answers can show that it is the database.
func (w *walk) tls(ctx context.Context) result {
	conn, err := w.reached.StartTLS(ctx)
	if err != nil {
		return w.untrusted(err)
	}
	return ok(describeTLS(conn.ConnectionState(), time.Now()))
}

// soon is when the end of a certificate is worth a word. RDS replaces them by itself
// some time before.
const soon = 30 * 24 * time.Hour

func describeTLS(state tls.ConnectionState, now time.Time) string {
	leaf := state.PeerCertificates[0]
	var issuers []string
	if len(state.VerifiedChains) > 0 {
		for _, certificate := range state.VerifiedChains[0][1:] {
			issuers = append(issuers, nameOf(certificate))
		}
	}
	left := leaf.NotAfter.Sub(now)
	validity := fmt.Sprintf("%d days", int(left.Hours()/24))
	if left < soon {
		validity = "only " + validity
	}
	return fmt.Sprintf("%s, certificate by %s, valid until %s (%s)", tls.VersionName(state.Version), strings.Join(issuers, ", "), leaf.NotAfter.UTC().Format(time.DateOnly), validity)
}

// nameOf is what a certificate is called.
func nameOf(certificate *x509.Certificate) string {
	return cmp.Or(certificate.Subject.CommonName, certificate.Subject.String())
}

// untrusted is about a server that was not accepted, or has no TLS.
func (w *walk) untrusted(err error) result {
	var (
		rejected *tls.CertificateVerificationError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	if !errors.As(err, &rejected) {
		return failed(err.Error(), inWords(text.Advice(err)))
	}
	shown := rejected.UnverifiedCertificates[0]
	switch {
	case errors.As(err, &name):
		return failed(fmt.Sprintf("the certificate is for %s, and not for %s", append(shown.DNSNames, nameOf(shown))[0], w.Host), w.otherName())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		w.seen.expiry = true
		return failed(fmt.Sprintf("the certificate is valid from %s to %s only", shown.NotBefore.UTC().Format(time.DateTime), shown.NotAfter.UTC().Format(time.DateTime)),
			inWords("if this machine's clock is right, the database needs another certificate"))
	default:
		return failed(fmt.Sprintf("the certificate is not trusted: it was issued by %s; if that is not RDS, somebody in between may look into TLS", cmp.Or(shown.Issuer.CommonName, shown.Issuer.String())), w.otherRoots(shown))
	}
}

func (w *walk) otherName() string {
	if w.Proxy.Via != "" || w.Proxy.Dial != nil {
		return inWords("have the port forward lead to this database, or give the name of the one that it leads to")
	}
	return w.whichNames()
}

// rdsBundle has all roots of RDS in a region's partition, new ones included.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
func rdsBundle(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem"
	case strings.HasPrefix(region, "us-gov-"):
		return "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem"
	default:
		return "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
	}
}

// otherRoots is what to trust instead. Whose certificate it is that RDS has not issued,
// somebody has to find out.
func (w *walk) otherRoots(shown *x509.Certificate) string {
	i := slices.Index(w.Options.Reach, caFlag)
	switch {
	case strings.Contains(shown.Issuer.String(), "Amazon RDS") && i >= 0: // which is built in
		return w.without(i).again()
	case strings.Contains(shown.Issuer.String(), "Amazon RDS"): // a new one
		return "curl -sSO " + rdsBundle(w.Region) + " && " + w.again(caFlag, "global-bundle.pem")
	case i >= 0:
		return w.without(i).again(caFlag, "ROOT_OF_THE_ISSUER.pem")
	default:
		return w.again(caFlag, "ROOT_OF_THE_ISSUER.pem")
	}
}

const caFlag = "--ca-file"

// without is a check without one flag, and its value, of those that say how the database
// is reached.
func (w *walk) without(i int) *walk {
	other := *w.Check
	other.Options.Reach = slices.Delete(slices.Clone(w.Options.Reach), i, i+2)
	return &walk{Check: &other}
}
