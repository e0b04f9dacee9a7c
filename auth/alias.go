package auth

import (
	"context"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Alias follows the CNAMEs of host and returns the first name that AWS assigned to
// a database, or "". The result is only for hints to the user: a CNAME must not
// decide which host is signed for and trusted.
//
// Alias reads the DNS responses itself, since net.Resolver returns only the last
// name: a cluster's name leads on to an instance's, and that to an EC2 host's. If
// dial is nil, the system's name servers are used.
func Alias(ctx context.Context, host string, dial func(ctx context.Context, network, address string) (net.Conn, error)) string {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	answers := aliases{next: make(map[string]string)}
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if udp, ok := conn.(*net.UDPConn); ok {
			return tap{udp, &answers}, err
		}
		return conn, err
	}}
	// Only the recorded CNAMEs matter; the name may have no address.
	_, _ = resolver.LookupCNAME(ctx, host)
	return answers.firstDatabase(host)
}

// tap is a connection to a name server that records the CNAMEs in responses.
type tap struct {
	*net.UDPConn
	answers *aliases
}

func (t tap) Read(b []byte) (int, error) {
	n, err := t.UDPConn.Read(b)
	t.answers.record(b[:n])
	return n, err
}

// aliases holds CNAME records: the canonical name of each alias.
type aliases struct {
	mu   sync.Mutex
	next map[string]string
}

// record adds the CNAMEs of a DNS response.
func (a *aliases) record(answer []byte) {
	var parser dnsmessage.Parser
	if _, err := parser.Start(answer); err != nil || parser.SkipAllQuestions() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		resource, err := parser.Answer()
		if err != nil {
			return // at the end, or malformed
		}
		if alias, ok := resource.Body.(*dnsmessage.CNAMEResource); ok {
			a.next[canonicalName(resource.Header.Name.String())] = canonicalName(alias.CNAME.String())
		}
	}
}

// firstDatabase returns the first name in host's chain of CNAMEs that belongs to a
// database, or "".
func (a *aliases) firstDatabase(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	// The resolver may have appended a search domain. No chain is longer than the map.
	for name := range a.next {
		if canonicalName(host) == name || strings.HasPrefix(name, canonicalName(host)+".") {
			for range len(a.next) {
				name = a.next[name]
				if ParseName(name).Kind != Unknown {
					return name
				}
			}
		}
	}
	return ""
}

// canonicalName returns name in lower case and without a trailing dot.
func canonicalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
