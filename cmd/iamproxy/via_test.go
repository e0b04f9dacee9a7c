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
		"ssm://":                             `via ssm://: "" is neither an instance`,
		"ssm://bastion":                      `"bastion" is neither an instance`,
		"ssm://i-0123456789ABCDEF0":          "neither an instance",
		"ssm://i-01/x":                       "neither an instance",
		"ssm://--profile":                    "neither an instance",
		"ssm://i-01?region=here":             `region "here"`,
		"ssm://i-01?document=x":              "only be region= and profile=",
		"ssm://i-01?region=":                 "only be region= and profile=",
		"ssm://i-01?profile=a&profile=b":     "only be region= and profile=",
		"ssm://i-01?profile=%zz":             "not percent-encoded",
		"exec:":                              "no {port} in the command",
		"exec:ssh HUNTER2":                   "no {port} in the command",
		"exec:ssh # {port}":                  "no {port} in the command",
		"exec:5432":                          "no {port} in the command",
		"exec:ssh {local-port} HUNTER2":      "{local-port} in the command is none of {port}, {host} and {dbport}",
		"exec:{port}":                        "begin with a program",
		"exec:'' {port}":                     "begin with a program",
		"exec:ssh 'HUNTER2 {port}":           "not the words of one program",
		"exec:ssh {port} | tee HUNTER2":      "not the words of one program",
		"exec:ssh {port} $(HUNTER2)":         "not the words of one program",
		"exec:ssh {port} &":                  "not the words of one program",
		"exec:ssh {port} $UNSET":             ": $UNSET is not set",
		"exec:ssh {port} ${UNSET?HUNTER2}":   ": $UNSET is not set",
		"exec:ssh {port} $(( HUNTER2 / 0 ))": "not the words of one program",
		"exec:SSHPASS=HUNTER2 ssh {port}":    "to set a variable, begin with env",
		"exec:ssh {LocalPort} {port}":        "{LocalPort} in the command is none of",
		"exec :ssh HUNTER2":                  "via (not shown",
		"EXEC:ssh HUNTER2":                   "no {port} in the command",
		" exec:ssh HUNTER2":                  "no {port} in the command",
	} {
		err := endpointError(t, host, via)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("%s: %v, want %q", via, err, want)
		}
	}
}

// endpointError is why there is no such endpoint; nil if there is.
func endpointError(t *testing.T, text, via string) error {
	t.Helper()
	c := runCommand{Endpoints: []string{text}, reaching: reaching{Via: via}, Listen: "127.0.0.1:5432"}
	_, err := c.endpoints(t.Context())
	return err
}

// An endpoint that cannot be read does not show the command in it, nor a half of it.
func TestCommandsAreNotShown(t *testing.T) {
	for text, want := range map[string]string{
		host + "?via=exec:sshpass -p a&HUNTER2 {port}":         "unknown key (not shown",
		host + "?via=exec%3Asshpass -p a&HUNTER2 {port}":       "unknown key (not shown",
		host + "?via=EXEC:sshpass -p a&HUNTER2 {port}":         "unknown key (not shown",
		host + "?via=exec:sshpass {port} -p a%zzHUNTER2":       "not percent-encoded as in a URL: (not shown",
		host + "?via=exec:sshpass {port} -p a,HUNTER2 bastion": "%2C",
		host + "?via=exec:sshpass {port} -p a,HUNTER2.b":       "%2C",
		host + "?via=exec:sshpass {port} -p a,b,HUNTER2":       "%2C",
		host + "?via=xexec:sshpass -p HUNTER2":                 "via (not shown",
		"exec:sshpass -p HUNTER2 {port}":                       "endpoint (not shown",
	} {
		err := endpointError(t, text, "")
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(strings.ToUpper(err.Error()), "HUNTER2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTunnels(t *testing.T) {
	t.Setenv("HOME", "/home/dev")
	t.Setenv("BASTION", "my bastion")
	t.Setenv("port", "{host}")
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
		" Exec:fwd {port} ${port}":                      {tunnel{command: []string{"fwd", "{port}", "{host}"}}, "exec:fwd"},
		"exec:sh -c '{ a; } | awk {print} {port}'":      {tunnel{command: []string{"sh", "-c", "{ a; } | awk {print} {port}"}}, "exec:sh"},
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

// Neither a password nor what is for iamproxy itself is for the programs.
func TestEnvironmentOfForwards(t *testing.T) {
	t.Setenv("PGPASSWORD", "HUNTER2")
	t.Setenv("IAMPROXY_VIA", "HUNTER2")
	t.Setenv("PGPORT", "5433")
	env := environment()
	if all := strings.Join(env, " "); strings.Contains(all, "HUNTER2") || !slices.Contains(env, "PGPORT=5433") {
		t.Errorf("there is %s", all)
	}
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
