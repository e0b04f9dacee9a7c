package auth

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/fakedns"
)

const clusterName = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

func TestAlias(t *testing.T) {
	server := nameServer(t, cnames{
		"db.example.com.":          "DB.internal.example.com.",
		"db.internal.example.com.": "MyDB.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com.",
		clusterName + ".":          "mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com.",
		"mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com.": "ec2-192-0-2-1.eu-west-1.compute.amazonaws.com.",
		"web.example.com.": "host.example.com.",
		"a.example.com.":   "b.example.com.",
		"b.example.com.":   "a.example.com.",
	})
	for host, want := range map[string]string{
		"db.example.com":          clusterName,
		"DB.internal.example.com": clusterName,
		"web.example.com":         "",
		"a.example.com":           "",
		"unknown.example.com":     "",
		"192.0.2.1":               "",
	} {
		if got := Alias(t.Context(), host, server); got != want {
			t.Errorf("Alias(%s) = %q, want %q", host, got, want)
		}
	}
}

func TestAliasWithoutNameServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Alias(ctx, "db.example.com", nil); got != "" {
		t.Errorf("got %q", got)
	}
}

func FuzzAliases(f *testing.F) {
	question := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName("db.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	asked, err := question.Pack()
	if err != nil {
		f.Fatal(err)
	}
	answer, err := fakedns.Reply(asked, cnames{"db.example.com.": "x.example.com."}.answer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(answer)
	f.Fuzz(func(t *testing.T, packet []byte) {
		a := aliases{next: make(map[string]string)}
		a.record(packet)
		for name := range a.next {
			if found := a.firstDatabase(name); found != "" && ParseName(found).Kind == Unknown {
				t.Errorf("found %q", found)
			}
		}
	})
}

// cnames maps each alias to its canonical name.
type cnames map[string]string

// answer returns the whole chain in one response, as recursive servers do.
func (c cnames) answer(question dnsmessage.Question) (chain []dnsmessage.Resource, code dnsmessage.RCode) {
	name := canonicalName(question.Name.String()) + "."
	for range c {
		next, ok := c[name]
		if !ok {
			break
		}
		chain = append(chain, dnsmessage.Resource{
			Header: fakedns.Header(dnsmessage.MustNewName(name)),
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(next)},
		})
		name = canonicalName(next) + "."
	}
	if chain == nil {
		code = dnsmessage.RCodeNameError
	}
	return chain, code
}

// nameServer starts a name server for the names and returns a function that dials it.
func nameServer(t *testing.T, names cnames) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	server, err := fakedns.Start("127.0.0.1:0", names.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}
}
