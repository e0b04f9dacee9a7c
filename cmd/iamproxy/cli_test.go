package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
)

const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// An error is one line, whatever is in the argument that it repeats.
func TestErrorIsOneLine(t *testing.T) {
	if code, stdout, stderr := try(t.Context(), "--no\nsuch"); code != 2 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: unknown flag --no such") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestFailures(t *testing.T) {
	noAWS(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	go greet(taken, "SSH-2.0-OpenSSH_9.2\r\n")
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	stranger := web.Listener.Addr().String()
	for _, test := range []struct {
		name  string
		args  []string
		wants []string
	}{
		{"port in use", []string{host, "--listen=" + taken.Addr().String()}, []string{taken.Addr().String(), "address already in use; another", "--listen 127.0.0.1:6432"}},
		{"admin port in use", []string{host, "--listen=127.0.0.1:0", "--admin=" + taken.Addr().String()}, []string{"--admin " + taken.Addr().String(), "address already in use"}},
		{"somebody else listens", []string{"wait", "--admin=off", "--listen=" + taken.Addr().String(), "--timeout=250ms"}, []string{taken.Addr().String(), "is not iamproxy"}},
		{"somebody else has the port", []string{"wait", "--admin=" + stranger, "--timeout=250ms"}, []string{stranger, "is not iamproxy"}},
		{"somebody else to shut down", []string{"shutdown", "--admin=" + stranger}, []string{stranger, "is not iamproxy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := try(t.Context(), test.args...)
			if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("ended with %d, printed %q and %q, want 1 and one line", code, stdout, stderr)
			}
			for _, want := range test.wants {
				if !strings.Contains(stderr, want) {
					t.Errorf("printed %q, want it to name %q", stderr, want)
				}
			}
		})
	}
}

func TestPlainIO(t *testing.T) {
	for value, want := range map[string]int{"1": 0, "0": 0, "": 0, "some": 2} {
		t.Setenv("IAMPROXY_PLAIN_IO", value)
		if code, _, stderr := try(t.Context(), "version"); code != want {
			t.Errorf("%q: ended with %d: %s", value, code, stderr)
		}
	}
}

func TestEndpoint(t *testing.T) {
	flags := endpoint{user: "flag", database: "flagged", region: "us-west-2", via: "flag.example:1"}
	for _, test := range []struct {
		text  string
		flags endpoint
		want  endpoint
	}{
		{host, endpoint{}, endpoint{host: host, port: "5432", region: "eu-west-1"}},
		{host, flags, endpoint{host: host, port: "5432", user: "flag", database: "flagged", region: "us-west-2", via: "flag.example:1"}},
		{strings.ToUpper(host) + ".:06000", endpoint{}, endpoint{host: host, port: "6000", region: "eu-west-1"}},
		{host + "?user=a%26b&database=c+d&region=us-east-1&via=localhost:15432&listen=127.0.0.1:1", flags,
			endpoint{host: host, port: "5432", region: "us-east-1", user: "a&b", database: "c d", via: "localhost:15432", listen: "127.0.0.1:1"}},
		{"db?region=eu-west-1&via=bastion", endpoint{}, endpoint{host: "db", port: "5432", region: "eu-west-1", via: "bastion:5432"}},
		{host + "?profile=p&assume-role=arn:aws:iam::111122223333:role/r&external-id=x&target=any&pool=2", endpoint{signer: signer{profile: "q", externalID: "y"}, target: "writer", pool: "1"},
			endpoint{host: host, port: "5432", region: "eu-west-1", signer: signer{"p", "arn:aws:iam::111122223333:role/r", "x"}, target: "any", pool: "2"}},
		{host + "?sslnegotiation=direct", endpoint{}, endpoint{host: host, port: "5432", region: "eu-west-1", sslnegotiation: "direct"}},
		{"[fd00::1]:5433?region=eu-west-1&via=10.0.0.1", endpoint{}, endpoint{host: "fd00::1", port: "5433", region: "eu-west-1", via: "10.0.0.1:5432"}},
		{"db?region=eu-west-1&via=[fe80::1%25eth0]:1", endpoint{}, endpoint{host: "db", port: "5432", region: "eu-west-1", via: "[fe80::1%eth0]:1"}},
	} {
		e, err := parseEndpoint(test.text)
		if err == nil {
			e, err = e.resolve(t.Context(), test.flags)
		}
		test.want.name = auth.ParseName(test.want.host)
		if err != nil || e != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.text, e, err, test.want)
		}
	}
}

func TestSOCKS(t *testing.T) {
	for via, want := range map[string]proxy.SOCKS{
		"socks5://127.0.0.1:1081":      {Address: "127.0.0.1:1081"},
		"socks5h://bastion/":           {Address: "bastion:1080"},
		"socks5://u:p%40ss@[::1]:1080": {Address: "[::1]:1080", User: "u", Password: "p@ss"},
	} {
		e, err := parseEndpoint(host)
		if err == nil {
			e, err = e.resolve(t.Context(), endpoint{via: via})
		}
		if err != nil || e.via != "" || e.socks == nil || *e.socks != want {
			t.Errorf("%s: got %+v, %v", via, e.socks, err)
		}
	}
}

// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
func TestWhoWantsAWriter(t *testing.T) {
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
		e, err := parseEndpoint(text)
		if err == nil {
			e, err = e.resolve(t.Context(), endpoint{})
		}
		if err != nil || e.wantsWriter() != want {
			t.Errorf("%s: writer %v, %v, want %v", text, e.wantsWriter(), err, want)
		}
	}
}

func TestSplitRoles(t *testing.T) {
	got := splitRoles("arn:aws:iam::111122223333:role/a,b, arn:aws-cn:iam::222233334444:role/c")
	if want := []string{"arn:aws:iam::111122223333:role/a,b", "arn:aws-cn:iam::222233334444:role/c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := splitRoles(""); got != nil {
		t.Errorf("got %q for none", got)
	}
}

// What the help and the errors say is what there is.
func TestKeyNames(t *testing.T) {
	for key := range new(endpoint).keys() {
		if !slices.Contains(strings.FieldsFunc(keyNames, func(r rune) bool { return r == ' ' || r == ',' }), key) || !strings.Contains(description, key) {
			t.Errorf("%s is not named", key)
		}
	}
}

func TestFlagWinsOverEnvironment(t *testing.T) {
	t.Setenv("IAMPROXY_USER", "variable")
	t.Setenv("IAMPROXY_ENDPOINTS", "first.example?region=eu-west-1, second.example?region=eu-west-1")
	var c commands
	parser, err := newParser(&c, streams{&bytes.Buffer{}, &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	endpoints, err := c.Run.endpoints(t.Context())
	if err != nil || len(endpoints) != 2 || endpoints[1].host != "second.example" || endpoints[1].user != "variable" {
		t.Errorf("got %+v, %v from the environment", endpoints, err)
	}
	if _, err := parser.Parse([]string{"third.example?region=eu-west-1", "--user=flag"}); err != nil {
		t.Fatal(err)
	}
	endpoints, err = c.Run.endpoints(t.Context())
	if err != nil || len(endpoints) != 1 || endpoints[0].host != "third.example" || endpoints[0].user != "flag" {
		t.Errorf("got %+v, %v from the command line", endpoints, err)
	}
}

func try(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// greet is a server of another protocol, which speaks first.
func greet(listener net.Listener, greeting string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, greeting)
		_, _ = io.ReadFull(conn, make([]byte, 8))
		conn.Close()
	}
}

// noAWS leaves nothing of AWS's to be found.
func noAWS(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}
