package endpoint

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
)

func TestInvalidTunnels(t *testing.T) {
	for via, want := range map[string]string{
		"ssm://":                             "not an instance",
		"ssm://bastion":                      "not an instance",
		"ssm://tag:Name":                     "not a tag",
		"ssm://i-0123456789ABCDEF0":          "not an instance",
		"ssm://i-01/x":                       "not an instance",
		"ssm://--profile":                    "not an instance",
		"ssm://i-01?region=here":             "not a region's name",
		"ssm://i-01?document=x":              "only region= and profile=",
		"ssm://i-01?region=":                 "only region= and profile=",
		"ssm://i-01?profile=a&profile=b":     "only region= and profile=",
		"ssm://i-01?profile=%zz":             "not percent-encoded",
		"exec:":                              "has no {port}",
		"exec:ssh HUNTER2":                   "has no {port}",
		"exec:ssh # {port}":                  "has no {port}",
		"exec:5432":                          "has no {port}",
		"exec:ssh {local-port} HUNTER2":      "{local-port} in the command is none of {port}, {host} and {dbport}",
		"exec:{port}":                        "begin with a program",
		"exec:'' {port}":                     "begin with a program",
		"exec:ssh 'HUNTER2 {port}":           "not one program",
		"exec:ssh {port} | tee HUNTER2":      "not one program",
		"exec:ssh {port} $(HUNTER2)":         "not one program",
		"exec:ssh {port} &":                  "not one program",
		"exec:ssh {port} $UNSET":             ": $UNSET is not set",
		"exec:ssh {port} ${UNSET?HUNTER2}":   ": $UNSET is not set",
		"exec:ssh {port} $(( HUNTER2 / 0 ))": "not one program",
		"exec:SSHPASS=HUNTER2 ssh {port}":    "to set a variable, begin with env",
		"exec:ssh {LocalPort} {port}":        "{LocalPort} in the command is none of",
		"exec :ssh HUNTER2":                  "not HOST[:PORT]",
		"EXEC:ssh HUNTER2":                   "has no {port}",
		" exec:ssh HUNTER2":                  "has no {port}",
	} {
		_, err := ParseAll(t.Context(), []string{host}, Endpoint{Via: via})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "HUNTER2") {
			t.Errorf("%s: %v, want %q", via, err, want)
		}
	}
}

// The error for an invalid endpoint contains no part of the command in it.
func TestErrorsHideCommands(t *testing.T) {
	for text, want := range map[string]string{
		host + "?via=exec:sshpass -p a&HUNTER2 {port}":         "unknown key (14 characters, not shown)",
		host + "?via=exec%3Asshpass -p a&HUNTER2 {port}":       "unknown key (14 characters, not shown)",
		host + "?via=EXEC:sshpass -p a&HUNTER2 {port}":         "unknown key (14 characters, not shown)",
		host + "?via=exec:sshpass {port} -p a%zzHUNTER2":       "not percent-encoded as in a URL",
		host + "?via=exec:sshpass {port} -p a,HUNTER2 bastion": "%2C",
		host + "?via=exec:sshpass {port} -p a,HUNTER2.b":       "%2C",
		host + "?via=exec:sshpass {port} -p a,b,HUNTER2":       "%2C",
		host + "?via=xexec:sshpass -p HUNTER2":                 "not HOST[:PORT]",
		"exec:sshpass -p HUNTER2 {port}":                       "ENDPOINT (30 characters, not shown)",
	} {
		_, err := ParseAll(t.Context(), []string{text}, Endpoint{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(strings.ToUpper(err.Error()), "HUNTER2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestParseTunnel(t *testing.T) {
	t.Setenv("HOME", "/home/dev")
	t.Setenv("BASTION", "my bastion")
	t.Setenv("port", "{host}")
	for via, want := range map[string]struct {
		Tunnel
		name string
	}{
		"SSM://i-01":                {Tunnel{target: &ssm.Target{ID: "i-01"}}, "ssm://i-01"},
		"ssm://i-0123456789abcdef0": {Tunnel{target: &ssm.Target{ID: "i-0123456789abcdef0"}}, "ssm://i-0123456789abcdef0"},
		"ssm://mi-01/":              {Tunnel{target: &ssm.Target{Kind: ssm.ManagedNode, ID: "mi-01"}}, "ssm://mi-01"},
		"ssm://ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007?region=us-east-1&profile=dev": {
			Tunnel{target: &ssm.Target{Kind: ssm.Container, ID: "ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007"}, region: "us-east-1", profile: "dev"},
			"ssm://ecs:my-cluster_0f9de17a6465404e8b1b2356dc13c2f8_0f9de17a6465404e8b1b2356dc13c2f8-1935363007?profile=dev&region=us-east-1"},
		"ssm://tag:Name=my bastion?region=us-east-1":    {Tunnel{target: &ssm.Target{Kind: ssm.Tag, Key: "Name", Value: "my bastion"}, region: "us-east-1"}, "ssm://tag:Name=my bastion?region=us-east-1"},
		"exec:ssh -N -L {port}:{host}:{dbport} bastion": {Tunnel{command: []string{"ssh", "-N", "-L", "{port}:{host}:{dbport}", "bastion"}}, "exec:ssh"},
		"exec:kubectl port-forward svc/x {port}:5432":   {Tunnel{command: []string{"kubectl", "port-forward", "svc/x", "{port}:5432"}}, "exec:kubectl"},
		`exec:~/bin/fwd "$BASTION" '$x *' a\ b {port}`:  {Tunnel{command: []string{"/home/dev/bin/fwd", "my bastion", "$x *", "a b", "{port}"}}, "exec:fwd"},
		`exec:fwd -o {"port":"{port}"}`:                 {Tunnel{command: []string{"fwd", "-o", "{port:{port}}"}}, "exec:fwd"},
		" Exec:fwd {port} ${port}":                      {Tunnel{command: []string{"fwd", "{port}", "{host}"}}, "exec:fwd"},
		"exec:sh -c '{ a; } | awk {print} {port}'":      {Tunnel{command: []string{"sh", "-c", "{ a; } | awk {print} {port}"}}, "exec:sh"},
		"exec:sh -c 'a | b {port}'":                     {Tunnel{command: []string{"sh", "-c", "a | b {port}"}}, "exec:sh"},
	} {
		got, err := parseTunnel(via)
		if err != nil || !reflect.DeepEqual(*got, want.Tunnel) || got.String() != want.name {
			t.Errorf("%s: got %+v, %v", via, got, err)
		}
	}
	for _, via := range []string{"localhost:15432", "socks5://localhost", "db.example.com", "http://x"} {
		if got, err := parseTunnel(via); got != nil || err != nil {
			t.Errorf("%s: got %+v, %v", via, got, err)
		}
	}
}

// The key via takes precedence over the flag, and needs no more encoding than in a URL.
func TestViaKey(t *testing.T) {
	for text, want := range map[string]string{
		host: "ssm://i-01",
		host + "?via=exec:ssh -L {port}:{host}:{dbport} b":              "exec:ssh",
		host + "?via=exec%3Assh%20-L%20{port}%3A{host}%3A{dbport}%20b":  "exec:ssh",
		host + "?via=ssm://i-02?region=us-east-1%26profile=p&user=u":    "ssm://i-02?profile=p&region=us-east-1",
		host + "?via=ssm://tag:Name=my%20bastion":                       "ssm://tag:Name=my bastion",
		host + "?via=localhost:5433":                                    "localhost:5433",
		host + "?via=exec:ssh+-L+{port}:{host}:{dbport}+b%2Cc&region=x": "",
	} {
		e, err := Parse(t.Context(), text, Endpoint{Via: "ssm://i-01"})
		if e.ViaName() != want || (want == "") != (err != nil) {
			t.Errorf("%s: got %q, %v", text, e.ViaName(), err)
		}
	}
}

// The result is a tunnel with a place for the local port, an error, or nil for another via.
func FuzzParseTunnel(f *testing.F) {
	for _, via := range []string{"ssm://i-01?region=eu-west-1", "exec:ssh -N -L {port}:{host}:{dbport} b", `exec:a "$HOME" ~/x {port} ${x:-y} $((1+1)) {a,b}`, "exec:<(x) {port}"} {
		f.Add(via)
	}
	f.Fuzz(func(t *testing.T, via string) {
		got, err := parseTunnel(via)
		switch {
		case err != nil:
		case got == nil:
			if strings.HasPrefix(via, execPrefix) || strings.HasPrefix(via, ssmPrefix) {
				t.Error("neither a tunnel nor an error")
			}
		case got.target == nil && !slices.ContainsFunc(got.command, func(word string) bool { return strings.Contains(word, "{port}") }):
			t.Errorf("no port in %q", got.command)
		}
	})
}

// An endpoint without a tunnel has no port forward.
func TestNoForward(t *testing.T) {
	if forward, err := (Endpoint{Via: "localhost:5432"}).Forward(t.Context(), nil, nil); forward != nil || err != nil {
		t.Errorf("got %v, %v", forward, err)
	}
}
