package main

import (
	"encoding/base64"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// misplacedSecrets returns values with a password that are often given in place of a word.
// TestShapeOf of package text has more.
func misplacedSecrets(password string) []string {
	secret := "{\n  \"username\": \"postgres\",\n  \"password\": \"a," + password + "\"\n}"
	return []string{
		secret,
		"postgres://app:a?b," + password + "@h.example.com:5432/mydb?sslmode=require",
		"host=h.example.com password=" + password,
		url.QueryEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)),
		"export PGPASSWORD=" + password,
		"password: " + password,
		"exec:sshpass -p " + password + " ssh {port}",
	}
}

// No flag, argument or variable of any command repeats a secret that was given in its place. The
// error names it, and the exit code is 2.
func TestMisplacedSecrets(t *testing.T) {
	noAWS(t)
	const password = "S3cretPw1"
	parser, err := newParser(&commands{}, streams{io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	rejects := func(name string, want int, args ...string) {
		t.Helper()
		code, stdout, stderr := try(t.Context(), args...)
		if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || want == 1 && !strings.Contains(stderr, name) {
			t.Errorf("%s in %q: exit code %d, stdout %q, stderr %q", name, args, code, stdout, stderr)
		}
		for _, secret := range misplacedSecrets(password) {
			if strings.Contains(stderr, password) || strings.Contains(stderr, secret) {
				t.Errorf("%s in %q: the secret is in %q", name, args, stderr)
			}
		}
	}
	named := func(command *kong.Node, value *kong.Value, secret string) {
		args := []string{command.Name}
		if len(command.Positional) > 0 && command.Positional[0] != value {
			args = append(args, host)
		}
		for _, variable := range value.Tag.Envs {
			os.Setenv(variable, secret)
			rejects(variable, 1, args...)
			os.Unsetenv(variable)
		}
		switch {
		case value.Flag == nil:
			rejects(strings.ToUpper(value.Name), 0, append(args, secret)...)
		case value.IsBool():
			rejects("--"+value.Name, 1, append(args, "--"+value.Name+"="+secret)...)
		default:
			rejects("--"+value.Name, 1, append(args, "--"+value.Name, secret)...)
		}
	}
	secrets := misplacedSecrets(password)
	done := make(map[string]bool) // flags of one name have one form
	for _, command := range parser.Model.Children {
		if command.Name == "completion" || command.Name == "help" {
			continue
		}
		for _, flag := range command.Flags {
			if !done[flag.Name] {
				done[flag.Name] = true
				named(command, flag.Value, secrets[len(done)%2])
			}
		}
		for _, argument := range command.Positional {
			named(command, argument, secrets[0])
			named(command, argument, secrets[1])
		}
	}
	if len(done) < 40 {
		t.Errorf("only %d flags", len(done))
	}
	for _, secret := range append(secrets[4:], secrets[0], secrets[1], password) {
		for _, args := range [][]string{
			{secret}, {secret, host}, {host, secret}, {"check", host, secret}, {"wait", secret}, {"version", secret}, {"help", secret}, {"completion", secret},
			{"--password", secret}, {"--password=" + secret}, {"--" + secret}, {"-W" + secret}, {"-" + secret}, {"--port", secret}, {"--user"},
			{host + "?password=" + secret}, {host + "?" + secret}, {host + "?region=" + secret}, {host + "?via=http://" + secret},
			{host + ",app:" + secret}, {host + "/" + secret}, {host + ":" + secret}, {"app:" + secret + "?x@" + host},
		} {
			rejects("", 0, args...)
		}
		for _, name := range []string{"PASSWORD", "DATABASE_URL", "PORT", "USERNAME"} {
			os.Setenv("IAMPROXY_"+name, secret)
			rejects("IAMPROXY_"+name, 1, "version")
			os.Unsetenv("IAMPROXY_" + name)
		}
	}
}

// A word that does not have the form of what was asked for is not repeated, either.
func TestMisplacedPasswords(t *testing.T) {
	noAWS(t)
	const password = "S3cretPw1"
	for _, flag := range []string{"region", "assume-role", "listen", "admin", "status", "allow-from", "socket-mode", "listen-tls", "target",
		"connect-timeout", "connect-rate", "pool", "max-sessions", "drain-min", "log-level", "client-cert-user", "ca-file", "client-ca"} {
		if code, _, stderr := try(t.Context(), host, "--"+flag+"="+password); code != 2 || strings.Contains(stderr, "S3cret") || !strings.Contains(stderr, strings.TrimPrefix(flag, "--")) {
			t.Errorf("--%s: exit code %d, stderr %q", flag, code, stderr)
		}
	}
	for _, flag := range []string{"admin-secret", "give-up-password", "password-file", "privileges", "timeout"} {
		if code, _, stderr := try(t.Context(), "grant", host, "--user=app", "--"+flag+"="+password); code != 2 || strings.Contains(stderr, "S3cret") {
			t.Errorf("grant --%s: exit code %d, stderr %q", flag, code, stderr)
		}
	}
	for _, flag := range []string{"account", "resource-id", "format"} {
		if code, _, stderr := try(t.Context(), "policy", host, "--user=app", "--"+flag+"="+password); code != 2 || strings.Contains(stderr, "S3cret") {
			t.Errorf("policy --%s: exit code %d, stderr %q", flag, code, stderr)
		}
	}
}

// Each flag that takes a text has a form, by which a misplaced secret is recognized.
func TestFlagsHaveForms(t *testing.T) {
	parser, err := newParser(&commands{}, streams{io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			switch flag.Target.Interface().(type) {
			case string, []string:
				if flag.Tag.Get("form") == "" && flag.Enum == "" {
					t.Errorf("%s --%s has no tag form", command.Name, flag.Name)
				}
			}
		}
	}
}
