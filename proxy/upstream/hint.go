package upstream

import (
	"cmp"
	"errors"
	"net"
	"net/netip"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// outsideHint is the hint for a name or an address that only the database's network has.
var outsideHint = " From outside the VPC use --via (" + text.PageURL("developer.md") + ")."

// hint returns what to do about a failure, by the way to the server. It is empty where the hint of
// the reason holds for every way.
func (d *Dialer) hint(reason pgwire.Reason, err error) string {
	switch {
	case d.SOCKS != nil:
		return socksHint(d.SOCKS.String(), reason, err)
	case d.TunnelOutput != nil:
		return tunnelHint(cmp.Or(d.TunnelOutput(), "none"), reason)
	case d.Via != "":
		return viaHint(d.Via, reason)
	default:
		return directHint(reason, err)
	}
}

func directHint(reason pgwire.Reason, err error) string {
	var dns *net.DNSError
	address := dialedAddr(err)
	var outside string
	if address.IsPrivate() {
		outside = outsideHint
	}
	switch {
	case reason == pgwire.ResolveFailed && errors.As(err, &dns) && dns.IsNotFound:
		return "Check the name, and that this host uses the DNS of the database's network." + outsideHint
	case reason == pgwire.DialFailed || reason == pgwire.NoAnswer && address.IsValid():
		return "Check that security groups and routes let this host reach the database." + outside
	case reason == pgwire.NoAnswer && isRead(err):
		return "The server accepted the connection and then did not answer. It may be overloaded, or failing over."
	}
	return ""
}

func viaHint(via string, reason pgwire.Reason) string {
	named := via + " (--via)"
	switch reason {
	case pgwire.ResolveFailed:
		return "Correct --via, or check the DNS servers of this host."
	case pgwire.DialRefused:
		if isLoopback(via) {
			return "Nothing is listening on " + named + ". Start the port forward, or correct --via."
		}
		return "Nothing is listening on " + named + ". Check that it is running, or correct --via."
	case pgwire.DialFailed:
		return "Check that this host reaches " + named + ", or correct --via."
	case pgwire.TLSWrongName:
		return "Check that " + named + " leads to this database, and that ENDPOINT is the name that AWS assigned to it."
	}
	if leadsElsewhere(reason) {
		return "Check that " + named + " leads to the database: a port forward may be up without reaching it, or lead to another port or database."
	}
	return ""
}

func socksHint(proxy string, reason pgwire.Reason, err error) string {
	var socks *socksError
	named := proxy + " (--via)"
	switch {
	case errors.As(err, &socks) && reason == pgwire.SOCKSRefused:
		return "Check the user, password and rules of the SOCKS proxy " + named + "."
	case errors.As(err, &socks):
		return "The SOCKS proxy " + named + " works but could not reach the database. Check that it resolves the name, and that security groups and routes let its host connect."
	case reason == pgwire.ResolveFailed:
		return "Correct --via, or check the DNS servers of this host."
	case reason == pgwire.DialRefused:
		return "Nothing is listening on " + named + ". Start the SOCKS proxy, or correct --via."
	case reason == pgwire.DialFailed:
		return "Check that this host reaches " + named + ", or correct --via."
	case leadsElsewhere(reason):
		return "Check that " + named + " is a SOCKS5 proxy that reaches the database."
	}
	return ""
}

func tunnelHint(output string, reason pgwire.Reason) string {
	if !leadsElsewhere(reason) {
		return ""
	}
	return "Check that the port forward leads to the database. Its last output: " + output
}

// leadsElsewhere reports whether a port forward or proxy may have caused a failure: it accepted
// the connection, and does not reach the server, or reaches another one.
func leadsElsewhere(reason pgwire.Reason) bool {
	switch reason {
	case pgwire.NoAnswer, pgwire.ConnectionClosed, pgwire.ConnectionBroken,
		pgwire.TLSNotOffered, pgwire.TLSRequestUnknown, pgwire.TLSFailed, pgwire.TLSWrongName:
		return true
	}
	return false
}

// isRead reports whether err occurred on an established connection.
func isRead(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "read" || op.Op == "write")
}

func isLoopback(hostPort string) bool {
	host, _, _ := net.SplitHostPort(hostPort)
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
