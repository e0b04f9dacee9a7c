package command

import (
	"slices"
	"strings"
	"testing"
)

var targets = []Target{
	{User: "my app", Database: "a/b", TCP: "127.0.0.1:4000", Socket: "/tmp/x y", SocketPort: "5432"},
	{User: "two", Database: "second", Socket: "/tmp/x y", SocketPort: "5433"},
	{User: "three", Database: "third", TCP: "[::1]:4002"},
}

func TestExpand(t *testing.T) {
	for template, want := range map[string]string{
		"A=postgres://{user}@{host}:{port}/{database}":             "postgres://my%20app@127.0.0.1:4000/a%2Fb",
		"A=jdbc:postgresql://{host}:{port}/{database}?user={user}": "jdbc:postgresql://127.0.0.1:4000/a%2Fb?user=my%20app",
		"A=postgresql:///{database2}?host={socket2}&port={port2}":  "postgresql:///second?host=%2Ftmp%2Fx%20y&port=5433",
		"A=postgresql://{user2}@{host2}:{port2}/{database2}":       "postgresql://two@%2Ftmp%2Fx%20y:5433/second", // only --listen unix:DIR
		"A=Host={host};Port={port};Username={user}":                "Host=127.0.0.1;Port=4000;Username=my app",
		"A=host={socket} port={port}":                              "host=/tmp/x y port=5432",
		"A=[{host3}]:{port3}":                                      "[::1]:4002",
		"A=postgresql://{user3}@{host3}:{port3}/{database3}":       "postgresql://three@[::1]:4002/third",
		`A={"user": "{user1}", "n": 1}`:                            `{"user": "my app", "n": 1}`,
		"A=":                                                       "",
	} {
		parsed, err := ParseTemplate(template, targets)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		if got := parsed.Expand(targets); parsed.Name != "A" || got != want {
			t.Errorf("%s: %s=%s, want %s", template, parsed.Name, got, want)
		}
	}
}

func TestParseTemplateErrors(t *testing.T) {
	for template, want := range map[string]string{
		"A":            "must be NAME=TEMPLATE",
		"=x":           "must be NAME=TEMPLATE",
		"a-b=x":        "must be NAME=TEMPLATE",
		"A={usr}":      "{usr} is unknown",
		"A={user4}":    "{user4}: there is no endpoint 4",
		"A={user0}":    "{user0}: there is no endpoint 0",
		"A={database}": "{database} needs --database",
		"A={user}":     "{user} needs --user",
	} {
		known := targets
		if strings.HasSuffix(want, "--database") || strings.HasSuffix(want, "--user") {
			known = []Target{{}}
		}
		if _, err := ParseTemplate(template, known); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", template, err, want)
		}
	}
}

func TestNeeds(t *testing.T) {
	template, err := ParseTemplate("A={host} {host3} {socket2}", targets)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ tcp, socket bool }{{true, false}, {false, true}, {true, false}} {
		if tcp, socket := template.NeedsTCP(i), template.NeedsSocket(i); tcp != want.tcp || socket != want.socket {
			t.Errorf("endpoint %d: %v, %v", i+1, tcp, socket)
		}
	}
}

// Variables that lead elsewhere are replaced or removed, and others are kept.
func TestEnvironment(t *testing.T) {
	inherited := []string{"PATH=/bin", "PGHOST=other", "PGHOSTADDR=192.0.2.1", "PGSERVICE=s", "PGPASSWORD=p", "PGUSER=me", "PGOPTIONS=-c a=b",
		"IAMPROXY_USER=x", "AWS_ACCESS_KEY_ID=k", "DATABASE_URL=old"}
	for name, test := range map[string]struct {
		target Target
		clean  bool
		want   []string
	}{
		"socket": {targets[0], false, []string{"AWS_ACCESS_KEY_ID=k", "DATABASE_URL=new", "PATH=/bin", "PGDATABASE=a/b", "PGHOST=/tmp/x y",
			"PGOPTIONS=-c a=b", "PGPORT=5432", "PGSSLMODE=disable", "PGUSER=my app"}},
		"TCP, clean": {Target{TCP: "127.0.0.1:4000"}, true, []string{"DATABASE_URL=new", "PATH=/bin", "PGHOST=127.0.0.1",
			"PGOPTIONS=-c a=b", "PGPORT=4000", "PGSSLMODE=disable", "PGUSER=me"}},
	} {
		got := Environment(inherited, test.clean, []Target{test.target}, map[string]string{"DATABASE_URL": "new"})
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
