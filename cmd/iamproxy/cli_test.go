package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/endpoint"
)

const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// An error is one line, even if it contains an argument with a line break.
func TestErrorIsOneLine(t *testing.T) {
	if code, stdout, stderr := try(t.Context(), "--no\nsuch"); code != 2 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: unknown flag (9 characters, not shown)") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestRunErrors(t *testing.T) {
	noAWS(t)
	log.SetOutput(unexpectedOutput{t})
	defer log.SetOutput(os.Stderr)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	go serveGreeting(taken, "SSH-2.0-OpenSSH_9.2\r\n")
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	other := web.Listener.Addr().String()
	for _, test := range []struct {
		name  string
		args  []string
		wants []string
	}{
		{"port in use", []string{host, "--listen=" + taken.Addr().String()}, []string{taken.Addr().String(), "address already in use; another", "--listen localhost:6432"}},
		{"admin port in use", []string{host, "--listen=127.0.0.1:0", "--admin=" + taken.Addr().String()}, []string{"--admin " + taken.Addr().String() + ": address already in use; another program uses it; choose another one, such as --admin 127.0.0.1:"}},
		{"wait: listener of another server", []string{"wait", "--admin=off", "--listen=" + taken.Addr().String(), "--timeout=250ms"}, []string{taken.Addr().String(), "is not iamproxy"}},
		{"wait: --admin of another protocol", []string{"wait", "--admin=" + taken.Addr().String(), "--timeout=250ms"}, []string{taken.Addr().String(), "is not iamproxy"}},
		{"wait: another HTTP server", []string{"wait", "--admin=" + other, "--timeout=250ms"}, []string{other, "is not iamproxy"}},
		{"shutdown: another HTTP server", []string{"shutdown", "--admin=" + other}, []string{other, "is not iamproxy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := try(t.Context(), test.args...)
			if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q, want 1 and one line", code, stdout, stderr)
			}
			for _, want := range test.wants {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q, want %q in it", stderr, want)
				}
			}
		})
	}
}

// The help names every key of an endpoint.
func TestKeysInHelp(t *testing.T) {
	_, help, _ := try(t.Context(), "--help")
	for _, key := range strings.FieldsFunc(strings.Replace(endpoint.Keys, " and ", ", ", 1), func(r rune) bool { return r == ' ' || r == ',' }) {
		if !strings.Contains(help, key) {
			t.Errorf("%s is missing", key)
		}
	}
}

// Each help fits into 80 columns.
func TestHelpFitsTerminal(t *testing.T) {
	for _, command := range []string{"", "run", "token", "check", "grant", "policy", "wait", "shutdown", "completion", "help", "version"} {
		code, help, stderr := try(t.Context(), "help", command)
		if code != 0 || !strings.HasPrefix(help, "Usage: iamproxy ") || stderr != "" {
			t.Errorf("help %s: exit code %d, stderr %q", command, code, stderr)
		}
		for line := range strings.Lines(help) {
			if len(line) > 81 {
				t.Errorf("help %s: %s", command, line)
			}
		}
	}
}

func TestFlagOverridesEnvironment(t *testing.T) {
	t.Setenv("IAMPROXY_USER", "variable")
	t.Setenv("IAMPROXY_ENDPOINTS", "first.example?region=eu-west-1, second.example?region=eu-west-1")
	parse := func(args ...string) []endpoint.Endpoint {
		var c commands
		parser, err := newParser(&c, streams{&bytes.Buffer{}, &bytes.Buffer{}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			t.Fatal(err)
		}
		endpoints, err := c.Run.parseEndpoints(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return endpoints
	}
	if got := parse(); len(got) != 2 || got[1].Host != "second.example" || got[1].User != "variable" {
		t.Errorf("got %+v from the environment", got)
	}
	t.Setenv("IAMPROXY_POOL", "not a number")
	if got := parse("third.example?region=eu-west-1", "--user=flag", "--pool=3"); len(got) != 1 || got[0].Host != "third.example" || got[0].User != "flag" || got[0].Pool != "3" {
		t.Errorf("got %+v from the command line", got)
	}
}

func try(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// unexpectedOutput is the output of Go's packages in addition to the one line of an error.
type unexpectedOutput struct{ t *testing.T }

func (u unexpectedOutput) Write(b []byte) (int, error) {
	u.t.Errorf("unexpected output: %s", b)
	return len(b), nil
}

// serveGreeting is a server of a protocol in which the server sends the first message.
func serveGreeting(listener net.Listener, greeting string) {
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

// noAWS removes all sources of AWS credentials.
func noAWS(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}
