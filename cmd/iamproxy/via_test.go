package main

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestWrongTunnels(t *testing.T) {
	for via, want := range map[string]string{
		"ssm://":                         `via ssm://: "" is neither an instance`,
		"ssm://bastion":                  `"bastion" is neither an instance`,
		"ssm://i-0123456789ABCDEF0":      "neither an instance",
		"ssm://i-01/x":                   "neither an instance",
		"ssm://--profile":                "neither an instance",
		"ssm://i-01?region=here":         `region "here"`,
		"ssm://i-01?document=x":          "only be region= and profile=",
		"ssm://i-01?region=":             "only be region= and profile=",
		"ssm://i-01?profile=a&profile=b": "only be region= and profile=",
		"ssm://i-01?profile=%zz":         "not percent-encoded",
		"exec:":                          "no {port} in the command",
		"exec:ssh PASSWORD":              "no {port} in the command",
		"exec:ssh # {port}":              "no {port} in the command",
		"exec:5432":                      "no {port} in the command",
		"exec:ssh {local-port} PASSWORD": "{local-port} in the command is none of {port}, {host} and {dbport}",
		"exec:{port}":                    "begin with a program",
		"exec:'' {port}":                 "begin with a program",
		"exec:ssh 'PASSWORD {port}":      "not the words of one program",
		"exec:ssh {port} | tee PASSWORD": "not the words of one program",
		"exec:ssh {port} $(PASSWORD)":    "not the words of one program",
		"exec:ssh {port} &":              "not the words of one program",
		"exec:ssh {port} $UNSET":         "UNSET",
	} {
		_, err := parseTunnel(via)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PASSWORD") {
			t.Errorf("%s: %v, want %q", via, err, want)
		}
	}
}

func TestTunnels(t *testing.T) {
	t.Setenv("HOME", "/home/dev")
	t.Setenv("BASTION", "my bastion")
	for via, want := range map[string]struct {
		tunnel
		name string
	}{
		"ssm://i-0123456789abcdef0": {tunnel{target: "i-0123456789abcdef0"}, "ssm://i-0123456789abcdef0"},
		"ssm://mi-01/":              {tunnel{target: "mi-01"}, "ssm://mi-01"},
		"ssm://ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007?region=us-east-1&profile=dev": {
			tunnel{target: "ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007", region: "us-east-1", profile: "dev"},
			"ssm://ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007?profile=dev&region=us-east-1"},
		"exec:ssh -N -L {port}:{host}:{dbport} bastion": {tunnel{command: []string{"ssh", "-N", "-L", "{port}:{host}:{dbport}", "bastion"}}, "exec:ssh"},
		"exec:kubectl port-forward svc/x {port}:5432":   {tunnel{command: []string{"kubectl", "port-forward", "svc/x", "{port}:5432"}}, "exec:kubectl"},
		`exec:~/bin/fwd "$BASTION" '$x *' a\ b {port}`:  {tunnel{command: []string{"/home/dev/bin/fwd", "my bastion", "$x *", "a b", "{port}"}}, "exec:fwd"},
		`exec:fwd -o {"port":"{port}"}`:                 {tunnel{command: []string{"fwd", "-o", "{port:{port}}"}}, "exec:fwd"},
		"exec:sh -c 'a | b {port}'":                     {tunnel{command: []string{"sh", "-c", "a | b {port}"}}, "exec:sh"},
	} {
		got, err := parseTunnel(via)
		if err != nil || !reflect.DeepEqual(*got, want.tunnel) || got.String() != want.name {
			t.Errorf("%s: got %+v, %v", via, got, err)
		}
	}
	for _, via := range []string{"localhost:15432", "socks5://localhost", "db.example.com", "http://x"} {
		if got, err := parseTunnel(via); got != nil || err != nil {
			t.Errorf("%s: got %+v, %v", via, got, err)
		}
	}
}

// An endpoint's own wins over the flag, in an ENDPOINT as much is encoded as there must be.
func TestEndpointTunnels(t *testing.T) {
	for text, want := range map[string]string{
		host: "ssm://i-01",
		host + "?via=exec:ssh -L {port}:{host}:{dbport} b":              "exec:ssh",
		host + "?via=exec%3Assh%20-L%20{port}%3A{host}%3A{dbport}%20b":  "exec:ssh",
		host + "?via=ssm://i-02?region=us-east-1%26profile=p&user=u":    "ssm://i-02?profile=p&region=us-east-1",
		host + "?via=localhost:5433":                                    "localhost:5433",
		host + "?via=exec:ssh+-L+{port}:{host}:{dbport}+b%2Cc&region=x": "",
	} {
		e, err := parseEndpoint(text)
		if err == nil {
			e, err = e.resolve(t.Context(), endpoint{via: "ssm://i-01"})
		}
		if e.viaName() != want || (want == "") != (err != nil) {
			t.Errorf("%s: got %q, %v", text, e.viaName(), err)
		}
	}
}

// Whatever it is, it is a port forward or an error, and has the places that it must have.
func FuzzTunnel(f *testing.F) {
	for _, via := range []string{"ssm://i-01?region=eu-west-1", "exec:ssh -N -L {port}:{host}:{dbport} b", `exec:a "$HOME" ~/x {port} ${x:-y} $((1+1)) {a,b}`, "exec:<(x) {port}"} {
		f.Add(via)
	}
	f.Fuzz(func(t *testing.T, via string) {
		got, err := parseTunnel(via)
		var usage usageError
		switch {
		case err != nil:
			if !errors.As(err, &usage) {
				t.Errorf("%v is not an error of the command line", err)
			}
		case got == nil:
			if strings.HasPrefix(via, execColon) || strings.HasPrefix(via, ssmScheme) {
				t.Error("neither a port forward nor an error")
			}
		case got.target == "" && !slices.ContainsFunc(got.command, func(word string) bool { return strings.Contains(word, "{port}") }):
			t.Errorf("no port in %q", got.command)
		}
	})
}

// Nothing is started for an endpoint that wants nothing.
func TestNoForward(t *testing.T) {
	var f forwards
	defer f.stop()
	dial, err := f.to(endpoint{via: "localhost:5432"})
	if dial != nil || err != nil || f.running != nil {
		t.Errorf("got %v, %v", dial != nil, err)
	}
}
