package auth

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

const clusterName = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

func TestAlias(t *testing.T) {
	server := nameServer(t, map[string]string{
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
		"nobody.example.com":      "",
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
	f.Add(answer(f, nil, "db.example.com.", map[string]string{"db.example.com.": "x.example.com."}))
	f.Fuzz(func(t *testing.T, packet []byte) {
		a := aliases{next: make(map[string]string)}
		a.note(packet)
		for name := range a.next {
			if found := a.database(name); found != "" && ParseName(found).Kind == Unknown {
				t.Errorf("found %q", found)
			}
		}
	})
}

// nameServer answers with CNAMEs, the whole chain in one message as recursive
// servers do, and returns how to reach it.
func nameServer(t *testing.T, aliases map[string]string) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answer(t, packet[:n], "", aliases), from)
		}
	}()
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}
}

// answer is a name server's to a question, or to the one for a name.
func answer(t testing.TB, question []byte, name string, aliases map[string]string) []byte {
	t.Helper()
	var asked dnsmessage.Message
	if question != nil {
		if err := asked.Unpack(question); err != nil {
			t.Error(err)
			return nil
		}
	} else {
		asked.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: asked.ID, Response: true, RecursionAvailable: true}, Questions: asked.Questions}
	current := plain(asked.Questions[0].Name.String()) + "."
	for range aliases {
		next, ok := aliases[current]
		if !ok {
			break
		}
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(current), Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(next)},
		})
		current = plain(next) + "."
	}
	if len(reply.Answers) == 0 {
		reply.RCode = dnsmessage.RCodeNameError
	}
	packed, err := reply.Pack()
	if err != nil {
		t.Error(err)
	}
	return packed
}
