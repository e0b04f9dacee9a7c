package auth

import (
	"context"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// Alias follows the CNAMEs of host to the first name that AWS gives a database,
// or returns "". It is for telling people which name to use, and for nothing
// else: who can change a CNAME must not decide what is signed and trusted.
//
// The names behind that one are of no use (a cluster's leads on to an instance's,
// and that to an EC2 host's), which is why it looks at the answers themselves:
// net.Resolver only tells the last one. If dial is nil, the system's name servers
// are asked.
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
	// The addresses are not wanted, and there may be none.
	_, _ = resolver.LookupCNAME(ctx, host)
	return answers.firstDatabase(host)
}

// tap is a connection to a name server whose answers are read along.
type tap struct {
	*net.UDPConn
	answers *aliases
}

func (t tap) Read(b []byte) (int, error) {
	n, err := t.UDPConn.Read(b)
	t.answers.note(b[:n])
	return n, err
}

// aliases are CNAMEs, from a name to the next.
type aliases struct {
	mu   sync.Mutex
	next map[string]string
}

// note takes the CNAMEs from a name server's answer, if it is one.
func (a *aliases) note(answer []byte) {
	var parser dnsmessage.Parser
	if _, err := parser.Start(answer); err != nil || parser.SkipAllQuestions() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		resource, err := parser.Answer()
		if err != nil {
			return // the end, or nonsense
		}
		if alias, ok := resource.Body.(*dnsmessage.CNAMEResource); ok {
			a.next[canonicalName(resource.Header.Name.String())] = canonicalName(alias.CNAME.String())
		}
	}
}

// database is the first name on the way from host that is a database's.
func (a *aliases) firstDatabase(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	// A resolver may have completed the name. No chain is longer than the map.
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

// plain is a name as it is compared: lower case, without the root's dot.
func canonicalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
