package endpoint

import (
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

func TestParse(t *testing.T) {
	flags := Endpoint{User: "flag", Database: "flagged", Region: "us-west-2", Via: "flag.example:1"}
	for _, test := range []struct {
		text  string
		flags Endpoint
		want  Endpoint
	}{
		{host, Endpoint{}, Endpoint{Host: host, Port: "5432", Region: "eu-west-1"}},
		{host, flags, Endpoint{Host: host, Port: "5432", User: "flag", Database: "flagged", Region: "us-west-2", Via: "flag.example:1"}},
		{strings.ToUpper(host) + ".:06000", Endpoint{}, Endpoint{Host: host, Port: "6000", Region: "eu-west-1"}},
		{host + "?user=a%26b&database=c+d&region=us-east-1&via=localhost:15432&listen=127.0.0.1:1", flags,
			Endpoint{Host: host, Port: "5432", Region: "us-east-1", User: "a&b", Database: "c d", Via: "localhost:15432", Listen: "127.0.0.1:1"}},
		{"db?region=eu-west-1&via=bastion", Endpoint{}, Endpoint{Host: "db", Port: "5432", Region: "eu-west-1", Via: "bastion:5432"}},
		{host + "?profile=p&assume-role=arn:aws:iam::111122223333:role/r&external-id=x&target=any&pool=2", Endpoint{Signer: Signer{Profile: "q", ExternalID: "y"}, Target: "writer", Pool: "1"},
			Endpoint{Host: host, Port: "5432", Region: "eu-west-1", Signer: Signer{"p", "arn:aws:iam::111122223333:role/r", "x"}, Target: "any", Pool: "2"}},
		{host + "?sslnegotiation=direct", Endpoint{}, Endpoint{Host: host, Port: "5432", Region: "eu-west-1", SSLNegotiation: "direct"}},
		{"[fd00::1]:5433?region=eu-west-1&via=10.0.0.1", Endpoint{}, Endpoint{Host: "fd00::1", Port: "5433", Region: "eu-west-1", Via: "10.0.0.1:5432"}},
		{"db?region=eu-west-1&via=[fe80::1%25eth0]:1", Endpoint{}, Endpoint{Host: "db", Port: "5432", Region: "eu-west-1", Via: "[fe80::1%eth0]:1"}},
	} {
		e, err := Parse(t.Context(), test.text, test.flags)
		test.want.Name = auth.ParseName(test.want.Host)
		if err != nil || e != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.text, e, err, test.want)
		}
	}
}

// An error says why a host name is none. It does not repeat the word, which may be a secret.
func TestParseEmptyLabel(t *testing.T) {
	for _, word := range []string{"mydb..eu-west-1.rds.amazonaws.com", ".hunter2.rds.amazonaws.com:5432", "mydb.hunter2..", "a...hunter2"} {
		if _, err := Parse(t.Context(), word, Endpoint{}); err == nil || !strings.Contains(err.Error(), "empty label") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", word, err)
		}
	}
	for _, word := range []string{".", "..", "a b..c", "[a..b]:1", "a..b:x"} {
		if _, err := Parse(t.Context(), word, Endpoint{}); err == nil {
			t.Errorf("%s is accepted", word)
		}
	}
}

func TestParseLongNames(t *testing.T) {
	long := strings.Repeat("é", 32)
	for _, flags := range []Endpoint{{User: long}, {Database: long}} {
		if _, err := Parse(t.Context(), host, flags); err == nil || !strings.Contains(err.Error(), "at most 63 bytes, and this one has 64") {
			t.Errorf("%+v: %v", flags, err)
		}
	}
}

func TestSOCKS(t *testing.T) {
	for via, want := range map[string]upstream.SOCKS5{
		"socks5://127.0.0.1:1081":      {Address: "127.0.0.1:1081"},
		"socks5h://bastion/":           {Address: "bastion:1080"},
		"socks5://u:p%40ss@[::1]:1080": {Address: "[::1]:1080", User: "u", Password: "p@ss"},
	} {
		e, err := Parse(t.Context(), host, Endpoint{Via: via})
		if err != nil || e.Via != "" || e.SOCKS == nil || *e.SOCKS != want {
			t.Errorf("%s: got %+v, %v", via, e.SOCKS, err)
		}
	}
}

// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
func TestNeedsWriter(t *testing.T) {
	for text, want := range map[string]bool{
		"mydb.cluster-cabc.eu-west-1.rds.amazonaws.com":             true,
		"mydb.cluster-cabc.eu-west-1.rds.amazonaws.com?target=any":  false,
		"mydb.cluster-ro-cabc.eu-west-1.rds.amazonaws.com":          false,
		"mydb.cluster-custom-cabc.eu-west-1.rds.amazonaws.com":      false,
		"mydb.cabc.eu-west-1.rds.amazonaws.com":                     false,
		"mydb.cabc.eu-west-1.rds.amazonaws.com?target=writer":       true,
		"mydb.proxy-cabc.eu-west-1.rds.amazonaws.com":               false,
		"gdb.global-cabc.global.rds.amazonaws.com?region=eu-west-1": true,
		"abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws":          false,
		"db.example.com?region=eu-west-1":                           false,
	} {
		e, err := Parse(t.Context(), text, Endpoint{})
		if err != nil || e.NeedsWriter() != want {
			t.Errorf("%s: needs a writer: %v, %v, want %v", text, e.NeedsWriter(), err, want)
		}
	}
}

func TestSplitRoles(t *testing.T) {
	got := splitRoles("arn:aws:iam::111122223333:role/a,b, arn:aws-cn:iam::222233334444:role/c")
	if want := []string{"arn:aws:iam::111122223333:role/a,b", "arn:aws-cn:iam::222233334444:role/c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := splitRoles(""); got != nil {
		t.Errorf("got %q for an empty text", got)
	}
}

// Messages name every key.
func TestKeys(t *testing.T) {
	for key := range new(Endpoint).keys() {
		if !slices.Contains(strings.FieldsFunc(Keys, func(r rune) bool { return r == ' ' || r == ',' }), key) {
			t.Errorf("%s is missing", key)
		}
	}
}
