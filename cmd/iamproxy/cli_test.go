package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
)

const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

func TestWrongConfiguration(t *testing.T) {
	noAWS(t)
	broken := filepath.Join(t.TempDir(), "broken.pem")
	if err := os.WriteFile(broken, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		env  string // one variable
		want string // in the one line on standard error
	}{
		{"nothing", nil, "", "no ENDPOINT given"},
		{"no endpoint", []string{"run"}, "", "no ENDPOINT given"},
		{"unknown flag", []string{host, "--lisen=x"}, "", "unknown flag --lisen"},
		{"flag without value", []string{host, "--via"}, "", "--via"},
		{"unknown variable", []string{host}, "IAMPROXY_LISEN=127.0.0.1:1", "IAMPROXY_LISEN"},
		{"unknown key", []string{host + "?usr=x"}, "", `unknown key "usr"`},
		{"repeated key", []string{host + "?user=x&user=y"}, "", "user is given 2 times"},
		{"empty key", []string{host + "?user="}, "", "user has no value"},
		{"bad escape", []string{host + "?user=%zz"}, "", "invalid URL escape"},
		{"no host", []string{":5432"}, "", "no host in it"},
		{"only commas", []string{","}, "", "no ENDPOINT given"},
		{"endpoints apart", []string{host, "--user=u", host}, "", "endpoints stand in a row"},
		{"unknown command", []string{"shutdwn"}, "IAMPROXY_REGION=eu-west-1", `"shutdwn" is neither a command nor an endpoint`},
		{"two lines", []string{"--no\nsuch"}, "", "--no such"},
		{"no labels", []string{".?region=eu-west-1"}, "", "not HOST or HOST:PORT"},
		{"odd host", []string{"*.example.com?region=eu-west-1"}, "", "not HOST or HOST:PORT"},
		{"region", []string{host, "--region=eu west 1"}, "", `region "eu west 1"`},
		{"region key", []string{host + "?region=nonsense"}, "", `region "nonsense"`},
		{"via a port", []string{host, "--via=15432"}, "", `via "15432"`},
		{"a port alone is not ours", []string{host}, "IAMPROXY_PORT=6000", "IAMPROXY_PORT"},
		{"nor one that ends so", []string{host}, "IAMPROXY_LISTEN_PORT=6", "IAMPROXY_LISTEN_PORT"},
		{"nor a host", []string{host}, "IAMPROXY_DATABASE_SERVICE_HOST=db.example.com", "IAMPROXY_DATABASE_SERVICE_HOST"},
		{"url", []string{"postgres://" + host}, "", "HOST or HOST:PORT"},
		{"port no number", []string{host + ":x"}, "", `"x" is no port`},
		{"port 0", []string{host + ":0"}, "", `"0" is no port`},
		{"port too large", []string{host + ":65536"}, "", `"65536" is no port`},
		{"name not of AWS", []string{"db.example.com"}, "", "?region="},
		{"address not of AWS", []string{"127.0.0.1"}, "", "?region="},
		{"global without region", []string{"g.global-cabcdefghijk.global.rds.amazonaws.com"}, "", "?region="},
		{"via without host", []string{host, "--via=:5432"}, "", `via ":5432": no host in it`},
		{"listen without port", []string{host, "--listen=127.0.0.1"}, "", "127.0.0.1: neither HOST:PORT nor unix:DIR"},
		{"listen everywhere", []string{host, "--listen=0.0.0.0:5432"}, "", "0.0.0.0:5432: not a loopback address"},
		{"listen on all", []string{host, "--listen=:5432"}, "", "not a loopback address"},
		{"listen on a name", []string{host, "--listen=example.com:5432"}, "", "neither localhost nor an address"},
		{"listen key everywhere", []string{host + "?listen=10.0.0.1:5432"}, "", "10.0.0.1:5432: not a loopback address"},
		{"no port left", []string{host, host, "--listen=127.0.0.1:65535"}, "", "no port is left"},
		{"no directory", []string{host, "--listen=unix:"}, "", "no directory"},
		{"abstract socket", []string{host, "--listen=unix:@iamproxy"}, "", "no mode to keep others out"},
		{"abstract socket in disguise", []string{host, "--listen=unix:./a/../@iamproxy"}, "", "no mode to keep others out"},
		{"one socket for two", []string{host, host + "?listen=unix:/tmp/x/", "--listen=unix:/tmp/x"}, "", "that of two endpoints"},
		{"one address for two", []string{host, host + "?listen=127.0.0.1:7", "--listen=127.0.0.1:7"}, "", "127.0.0.1:7: it is that of two"},
		{"socket mode for nobody", []string{host, "--socket-mode=066"}, "", "the owner has to be able"},
		{"socket's port", []string{host + "?listen=unix:/tmp/.s.PGSQL.x"}, "", `"x" is no port`},
		{"socket's path too long", []string{host, "--listen=unix:/" + strings.Repeat("d", 100)}, "", "103 is the most"},
		{"socket mode", []string{host, "--socket-mode=u=rw"}, "", "--socket-mode u=rw: not an octal mode"},
		{"socket mode too wide", []string{host}, "IAMPROXY_SOCKET_MODE=1777", "--socket-mode 1777"},
		{"TLS for clients", []string{host, "--listen-tls=on"}, "", "--listen-tls on: neither off, self-signed"},
		{"no key", []string{host, "--listen-tls=cert.pem,"}, "", "neither off, self-signed"},
		{"certificate missing", []string{host, "--listen-tls=/no/cert.pem,/no/key.pem"}, "", "/no/cert.pem"},
		{"certificate broken", []string{host, "--listen-tls=" + broken + "," + broken}, "", broken},
		{"negotiation", []string{host + "?sslnegotiation=maybe"}, "", `sslnegotiation "maybe": neither postgres nor direct`},
		{"pool", []string{host + "?pool=many"}, "", `pool "many": must be a number of connections`},
		{"pool below 0", []string{host, "--pool=-1"}, "", `pool "-1": must be a number of connections`},
		{"target", []string{host + "?target=reader"}, "", `target "reader": neither writer nor any`},
		{"rate negative", []string{host, "--connect-rate=-1"}, "", "--connect-rate -1: must be 0"},
		{"rate no number", []string{host}, "IAMPROXY_CONNECT_RATE=many", "many"},
		{"no role", []string{host, "--assume-role=app"}, "", `"app" is not a role's ARN`},
		{"one of the roles", []string{host, "--assume-role=arn:aws:iam::111122223333:role/a,b,arn:aws:iam::111122223333:user/c"}, "", `"arn:aws:iam::111122223333:user/c" is not a role's ARN`},
		{"external id for nothing", []string{host, "--external-id=x"}, "", "external-id is of no use without assume-role"},
		{"via a web proxy", []string{host, "--via=http://user:PASSWORD@proxy:3128"}, "", "may be a password in it): neither HOST:PORT nor socks5://"},
		{"via a web proxy without a password", []string{host, "--via=http://proxy:3128"}, "", `via "http://proxy:3128": neither HOST:PORT nor socks5://`},
		{"via with & in its password", []string{host + "?via=socks5://user:P&PASSWORD@proxy:1080"}, "", "unknown key (not shown"},
		{"via with % in its password", []string{host + "?via=socks5://user:P%PASSWORD@proxy:1080"}, "", "not percent-encoded"},
		{"via with # in its password", []string{host, "--via=socks5://user:12#PASSWORD@proxy:1080"}, "", "percent-encoded"},
		{"via with / in its password", []string{host, "--via=socks5://user:12/PASSWORD@proxy:1080"}, "", "percent-encoded"},
		{"via with ? in its password", []string{host, "--via=socks5://user:12?PASSWORD@proxy:1080"}, "", "percent-encoded"},
		{"a role that is not set", []string{host, "--assume-role=,arn:aws:iam::111122223333:role/b"}, "", `"" is not a role's ARN`},
		{"a role that is not set behind", []string{host, "--assume-role=arn:aws:iam::111122223333:role/b,"}, "", "is not a role's ARN"},
		{"via a path", []string{host, "--via=socks5://user:PASSWORD@proxy:1080/x"}, "", "neither HOST:PORT nor socks5"},
		{"via no port", []string{host, "--via=socks5://user:PASSWORD@proxy:x"}, "", "via: not socks5://"},
		{"via without a scheme", []string{host, "--via=user:PASSWORD@proxy:1080"}, "", "may be a password"},
		{"via with a comma in its password", []string{host + "?via=socks5://user:P,PASSWORD@proxy:1080"}, "", "via: not socks5://"},
		{"via and no region", []string{"db.example.com", "--via=socks5://user:PASSWORD@proxy"}, "", "not a name that AWS gives"},
		{"via no host", []string{host, "--via=socks5://:1080"}, "", `via "socks5://:1080": not socks5://`},
		{"CA file missing", []string{host, "--ca-file=/does/not/exist.pem"}, "", "/does/not/exist.pem"},
		{"CA file broken", []string{host}, "IAMPROXY_CA_FILE=" + broken, broken + ": no PEM certificate"},
		{"unknown profile", []string{host, "--profile=nobody"}, "", "nobody"},
		{"timeout no duration", []string{host, "--connect-timeout=soon"}, "", "--connect-timeout"},
		{"timeout negative", []string{host, "--connect-timeout=-1s"}, "", "--connect-timeout -1s"},
		{"level", []string{host, "--log-level=loud"}, "", "--log-level"},
		{"format", []string{host, "--log-format=xml"}, "", "--log-format"},
		{"token without user", []string{"token", host}, "", "give --user"},
		{"token for two", []string{"token", host, host, "--user=u"}, "", host + "\n"},
		{"token for a name not of AWS", []string{"token", "db.example.com", "--user=u"}, "", "?region="},
		{"wait no time", []string{"wait", "--timeout=-1s"}, "", "--timeout -1s"},
		{"wait at no address", []string{"wait", "--admin=off", "--listen=db.example.com:5432"}, "", "neither localhost nor an address"},
		{"wait at no admin", []string{"wait", "--admin=9090"}, "", "--admin 9090: neither HOST:PORT nor off"},
		{"shutdown of nobody", []string{"shutdown"}, "IAMPROXY_ADMIN=off", "send the process a SIGTERM"},
		{"admin at no port", []string{host, "--admin=127.0.0.1:http"}, "", `"http" is no port`},
		{"admin at a name", []string{host, "--admin=db.example.com:9090"}, "", `"db.example.com" is neither`},
		{"allow nobody", []string{host, "--allow-from=me"}, "", `--allow-from "me"`},
		{"allow a host in a network", []string{host, "--allow-from=10.0.0.0/8,10.1.2.3/16"}, "", "10.1.0.0/16 is that network"},
		{"allow a user who is not there", []string{host, "--allow-user=root,nobody-of-this-name"}, "", `--allow-user "nobody-of-this-name": there is no such user`},
		{"allow no user", []string{host, "--allow-user="}, "", "--allow-user is empty"},
		{"allow a user of no number", []string{host, "--allow-user=-1"}, "", `--allow-user "-1"`},
		{"fewer than no sessions", []string{host, "--max-sessions=-1"}, "", "--max-sessions -1"},
		{"drain backwards", []string{host, "--drain-min=30s"}, "", "--drain-min 30s and --drain-max 25s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if name, value, ok := strings.Cut(test.env, "="); ok {
				t.Setenv(name, value)
			}
			code, stdout, stderr := try(t.Context(), test.args...)
			if strings.Contains(stderr, "PASSWORD") {
				t.Errorf("a password in %q", stderr)
			}
			if code != 2 || stdout != "" || !strings.Contains(stderr, test.want) ||
				!strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("ended with %d, printed %q and %q, want 2 and one line with %q", code, stdout, stderr, test.want)
			}
		})
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
		{"no credentials", []string{"token", host, "--user=u"}, []string{"no AWS credentials", "AWS_ACCESS_KEY_ID"}},
		{"admin port in use", []string{host, "--listen=127.0.0.1:0", "--admin=" + taken.Addr().String()}, []string{"--admin " + taken.Addr().String(), "address already in use"}},
		{"nobody is ready", []string{"wait", "--admin=127.0.0.1:1", "--timeout=250ms"}, []string{"127.0.0.1:1", "250ms", "connection refused"}},
		{"nobody listens", []string{"wait", "--admin=off", "--listen=127.0.0.1:1", "--timeout=250ms"}, []string{"127.0.0.1:1", "250ms", "connection refused"}},
		{"somebody else listens", []string{"wait", "--admin=off", "--listen=" + taken.Addr().String(), "--timeout=250ms"}, []string{taken.Addr().String(), "is not iamproxy"}},
		{"somebody else has the port", []string{"wait", "--admin=" + stranger, "--timeout=250ms"}, []string{stranger, "is not iamproxy"}},
		{"nobody to shut down", []string{"shutdown", "--admin=127.0.0.1:1"}, []string{"127.0.0.1:1", "connection refused"}},
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

func TestHelpAndVersion(t *testing.T) {
	for _, test := range []struct {
		args  []string
		wants []string
	}{
		{[]string{"--help"}, []string{"token", "wait", "version", "--listen", "IAMPROXY_CA_FILE", "ENDPOINT is HOST"}},
		{[]string{"run", "--help"}, []string{"--connect-timeout", "30s"}},
		{[]string{"token", "--help"}, []string{"--user"}},
		{[]string{"version"}, []string{"iamproxy ", "go1."}},
	} {
		code, stdout, stderr := try(t.Context(), test.args...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: ended with %d, printed %q", test.args, code, stderr)
		}
		for _, want := range test.wants {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: printed %q, want it to name %q", test.args, stdout, want)
			}
		}
	}
}

// Kubernetes sets such variables beside a service called iamproxy; they are not
// ours, and no reason not to start.
func TestKubernetesServiceVariables(t *testing.T) {
	for _, variable := range []string{"IAMPROXY_SERVICE_HOST=10.0.0.1", "IAMPROXY_SERVICE_PORT=5432", "IAMPROXY_SERVICE_PORT_POSTGRES=5432",
		"IAMPROXY_PORT=tcp://10.0.0.1:5432", "IAMPROXY_PORT_5432_TCP=tcp://10.0.0.1:5432", "IAMPROXY_PORT_5432_TCP_ADDR=10.0.0.1",
		"IAMPROXY_READER_SERVICE_HOST=fd00::2", "IAMPROXY_READER_PORT_5432_TCP_PROTO=tcp"} {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	if code, _, stderr := try(t.Context(), "version"); code != 0 {
		t.Errorf("ended with %d: %s", code, stderr)
	}
}

// A variable that a template left empty is one that is not set.
func TestEmptyVariables(t *testing.T) {
	for _, name := range []string{"ENDPOINTS", "LISTEN", "USER", "DATABASE", "REGION", "PROFILE", "ASSUME_ROLE", "EXTERNAL_ID", "VIA", "TARGET", "CONNECT_RATE", "CA_FILE", "CONNECT_TIMEOUT", "SOCKET_MODE", "LISTEN_TLS", "LOG_LEVEL", "LOG_FORMAT", "TIMEOUT"} {
		t.Setenv("IAMPROXY_"+name, "")
	}
	code, _, stderr := try(t.Context())
	if code != 2 || !strings.Contains(stderr, "no ENDPOINT given") {
		t.Errorf("ended with %d: %s", code, stderr)
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

func TestHelpInSpiteOfAWrongVariable(t *testing.T) {
	t.Setenv("IAMPROXY_LISEN", "x")
	if code, stdout, _ := try(t.Context(), "--help"); code != 0 || !strings.Contains(stdout, "IAMPROXY_LISTEN") {
		t.Errorf("ended with %d: %s", code, stdout)
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
