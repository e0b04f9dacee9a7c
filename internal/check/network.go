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
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/internal/winsock"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	roots "github.com/iamproxy/iamproxy/tls"
)

// dns resolves the host that is dialed.
func (r *run) dns(ctx context.Context) result {
	switch {
	case r.Dialer.SOCKS != nil:
		return notTried("the SOCKS proxy resolves the name: " + r.Dialer.SOCKS.String())
	case r.OpenSession != nil:
		return notTried("the target of the session resolves the name")
	case r.Dialer.DialContext != nil:
		return notTried("the port forward resolves the name")
	}
	host := r.Endpoint.Host
	if r.Dialer.Via != "" {
		host, _, _ = net.SplitHostPort(r.Dialer.Via)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		r.seen.addresses = []netip.Addr{address}
		return ok("not needed (" + address.Unmap().String() + ")")
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var unknown *net.DNSError
	switch err = winsock.POSIX(err); {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return failed(fmt.Sprintf("DNS has no name %q", host), r.listEndpoints()).withReason(string(pgwire.ResolveFailed))
	case err != nil:
		return failed(fmt.Sprintf("could not resolve %q: %v", host, err), advice("Check the DNS servers of this host. In a VPC, use 169.254.169.253.")).withReason(string(pgwire.ResolveFailed))
	}
	r.seen.addresses = addresses
	found := host
	if alias, err := net.DefaultResolver.LookupCNAME(ctx, host); err == nil && !strings.EqualFold(strings.TrimSuffix(alias, "."), host) {
		found += " is an alias of " + strings.TrimSuffix(alias, ".")
	}
	var known []string
	for _, address := range addresses {
		known = append(known, located(address))
	}
	return ok(found + ", " + strings.Join(known, ", "))
}

func located(address netip.Addr) string {
	return address.Unmap().String() + " (" + networkOf(address) + ")"
}

// networkOf describes the network of an address.
func networkOf(address netip.Addr) string {
	switch address = address.Unmap(); {
	case address.IsLoopback():
		return "this host"
	case address.IsPrivate() || address.IsLinkLocalUnicast():
		return "private"
	default:
		return "public"
	}
}

// listEndpoints returns the command line that lists the existing endpoints, or advice.
func (r *run) listEndpoints() string {
	switch {
	case r.Dialer.Via != "":
		return advice("Correct the name in --via, or use DNS servers that know it.")
	case r.seen.database != nil:
		return advice("The database exists. Use DNS servers that know it, in a VPC 169.254.169.253. From outside the VPC, use --via.")
	}
	switch r.Endpoint.Name.Kind {
	case auth.Instance:
		return r.awsLine("rds", "describe-db-instances", "--query", "DBInstances[].Endpoint.Address", "--output", "text")
	case auth.RDSProxy:
		return r.awsLine("rds", "describe-db-proxies", "--query", "DBProxies[].Endpoint", "--output", "text")
	case auth.DSQL:
		return r.awsLine("dsql", "list-clusters")
	default:
		return r.awsLine("rds", "describe-db-clusters", "--query", "DBClusters[].[Endpoint,ReaderEndpoint]", "--output", "text")
	}
}

// session waits until the session of Session Manager is open.
func (r *run) session(ctx context.Context) result {
	found, err := r.OpenSession(ctx)
	if err != nil {
		reason := reasonOf(err)
		r.seen.rejected = reason == reasonCredentials
		return failed(err.Error(), advice(text.Advice(err))).withReason(reason)
	}
	return ok(found)
}

// tcp connects to the server.
func (r *run) tcp(ctx context.Context) result {
	probe, err := r.Dialer.Probe(ctx)
	if err != nil {
		return failed(err.Error(), r.connectAdvice(ctx, err)).withReason(reasonOf(err))
	}
	r.probe = probe
	if r.OpenSession != nil { // the target may not have connected yet
		return ok("opened in the session")
	}
	return ok("connected to " + probe.Address.String())
}

// connectAdvice returns the next step after a failed connection.
func (r *run) connectAdvice(ctx context.Context, err error) string {
	refused := errors.Is(err, syscall.ECONNREFUSED)
	d := r.seen.database
	switch {
	case r.seen.down:
		return r.start(*d)
	case r.Dialer.DialContext != nil: // other hints have text that the port forward printed
		return advice(cmp.Or(text.Advice(err), "Check that the port forward leads to the database."))
	case r.Dialer.SOCKS != nil || r.Dialer.Via != "":
		return advice(r.Dialer.AsError(err).Hint)
	case d != nil && d.Port != 0 && fmt.Sprint(d.Port) != r.Endpoint.Port:
		return r.atPort(d.Port)
	case refused:
		return r.showStatus()
	case len(r.seen.addresses) > 0 && isOutside(ctx, r.seen.addresses[0]):
		return r.again("--via", "ssm://INSTANCE_ID")
	default:
		return r.openSecurityGroup(ctx)
	}
}

// showStatus returns the command line that shows the database's status and port.
func (r *run) showStatus() string {
	name, _, _ := strings.Cut(r.Endpoint.Host, ".")
	d := r.seen.database
	if d != nil && d.InCluster && d.Instance == "" {
		name = d.Identifier
	}
	switch r.Endpoint.Name.Kind {
	case auth.DSQL:
		return r.awsLine("dsql", "get-cluster", "--identifier", name)
	case auth.RDSProxy:
		return r.awsLine("rds", "describe-db-proxies", "--query", "DBProxies[].[Endpoint,Status]", "--output", "text")
	case auth.Instance:
		return r.awsLine("rds", "describe-db-instances", "--db-instance-identifier", name, "--query", "DBInstances[0].[DBInstanceStatus,Endpoint]")
	}
	return r.awsLine("rds", "describe-db-clusters", "--db-cluster-identifier", name, "--query", "DBClusters[0].[Status,Endpoint,Port]")
}

// openSecurityGroup returns the command line that allows this host in the database's security
// group.
func (r *run) openSecurityGroup(ctx context.Context) string {
	group := "SECURITY_GROUP_ID"
	if d := r.seen.database; d != nil && len(d.SecurityGroups) > 0 {
		group = d.SecurityGroups[0]
	}
	from := "ADDRESS_OF_THIS_HOST/32"
	if len(r.seen.addresses) > 0 {
		if source, known := localAddr(ctx, r.seen.addresses[0]); known && networkOf(source) == "private" && networkOf(r.seen.addresses[0]) == "private" {
			from = netip.PrefixFrom(source, source.BitLen()).String()
			if source.Is6() { // --cidr is for IPv4 only
				return r.awsLine("ec2", "authorize-security-group-ingress", "--group-id", group, "--ip-permissions",
					fmt.Sprintf("IpProtocol=tcp,FromPort=%s,ToPort=%s,Ipv6Ranges=[{CidrIpv6=%s}]", r.Endpoint.Port, r.Endpoint.Port, from))
			}
		}
	}
	return r.awsLine("ec2", "authorize-security-group-ingress", "--group-id", group, "--protocol", "tcp", "--port", r.Endpoint.Port, "--cidr", from)
}

// privateNetworks lists the networks of RFC 1918. A host in another one than the database is
// likely to be outside the database's network.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
}

// isOutside reports whether database is in a private network that this host is not in.
func isOutside(ctx context.Context, database netip.Addr) bool {
	source, known := localAddr(ctx, database)
	for _, network := range privateNetworks {
		if network.Contains(database.Unmap()) {
			return known && !network.Contains(source)
		}
	}
	return false
}

// localAddr returns the source address for packets to an address. It sends none.
func localAddr(ctx context.Context, to netip.Addr) (netip.Addr, bool) {
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

// tls starts TLS and verifies the server's certificate.
func (r *run) tls(ctx context.Context) result {
	state, err := r.probe.StartTLS(ctx)
	if err != nil {
		return r.untrusted(err).withReason(reasonOf(err))
	}
	return ok(describeTLS(state, time.Now()))
}

// expiryWarning is the remaining validity below which the report has a remark. RDS renews its
// certificates earlier.
const expiryWarning = 30 * 24 * time.Hour

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
	if left < expiryWarning {
		validity = "only " + validity
	}
	return fmt.Sprintf("%s, certificate by %s, valid until %s (%s)", tls.VersionName(state.Version), strings.Join(issuers, ", "), leaf.NotAfter.UTC().Format(time.DateOnly), validity)
}

// nameOf returns the common name of a certificate, or its subject.
func nameOf(certificate *x509.Certificate) string {
	return cmp.Or(certificate.Subject.CommonName, certificate.Subject.String())
}

// untrusted returns the result for a failed TLS handshake.
func (r *run) untrusted(err error) result {
	var (
		rejected *tls.CertificateVerificationError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	if !errors.As(err, &rejected) {
		return failed(err.Error(), advice(text.Advice(err)))
	}
	shown := rejected.UnverifiedCertificates[0]
	switch {
	case errors.As(err, &name):
		return failed(fmt.Sprintf("the certificate is for %q, not for %q", append(shown.DNSNames, nameOf(shown))[0], r.Endpoint.Host), r.otherName())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		r.seen.expiry = true
		return failed(fmt.Sprintf("the certificate is valid only from %s to %s", shown.NotBefore.UTC().Format(time.DateTime), shown.NotAfter.UTC().Format(time.DateTime)),
			advice("If the clock of this machine is right, renew the certificate of the database."))
	default:
		return failed("the certificate is not trusted: it was issued by "+roots.Issuer(shown), r.otherRoots(shown))
	}
}

// otherName returns the next step for a certificate of another host.
func (r *run) otherName() string {
	if r.Dialer.Via != "" || r.Dialer.DialContext != nil {
		return advice("Let the port forward lead to this database, or pass the name of the database that it leads to.")
	}
	return r.listEndpoints()
}

// otherRoots returns the command line with the roots of RDS for a certificate that names RDS as
// its issuer, and advice for any other certificate, whose issuer may read all traffic if trusted.
func (r *run) otherRoots(shown *x509.Certificate) string {
	url := roots.BundleURL(shown)
	switch {
	case !roots.IssuedByRDS(shown):
		return advice(roots.StrangerAdvice)
	case roots.HasEmbeddedRoots(shown) && r.CAFile != "":
		return checkLine(r.suggested(), "")
	case url == "":
		return advice(roots.UntrustedHint(shown))
	default:
		return "curl -fsSO " + url + " && " + checkLine(r.suggested(), path.Base(url))
	}
}
