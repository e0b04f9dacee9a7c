package endpoint

import "testing"

func TestCheckCommand(t *testing.T) {
	const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	for _, test := range []struct {
		endpoint       string
		flags          Endpoint
		user, database string
		caFile         string
		want           string
	}{
		{host, Endpoint{}, "app", "mydb", "", "iamproxy check " + host + " --user app --database mydb"},
		{host, Endpoint{}, "app", "postgres", "", "iamproxy check " + host + " --user app"},
		{host, Endpoint{}, "it's $me", "", "", "iamproxy check " + host + ` --user 'it'\''s $me'`},
		{host, Endpoint{}, "--via=exec:x {port}", "-d", "", "iamproxy check " + host + " '--user=--via=exec:x {port}' --database=-d"},
		{host, Endpoint{User: "fixed", Database: "own"}, "app", "mydb", "", "iamproxy check " + host + " --user fixed --database own"},
		{
			host + ":5433?target=any&region=us-east-1&sslnegotiation=direct", Endpoint{}, "app", "", "my ca.pem",
			"iamproxy check '" + host + ":5433?region=us-east-1&target=any&sslnegotiation=direct' --user app --ca-file 'my ca.pem'",
		},
		{
			host, Endpoint{Signer: Signer{Profile: "my dev", AssumeRole: "arn:aws:iam::111122223333:role/r", ExternalID: "x"}, Via: "socks5://me:secret@127.0.0.1"},
			"app", "", "",
			"iamproxy check " + host + " --user app --profile 'my dev' --assume-role arn:aws:iam::111122223333:role/r --external-id x --via socks5://127.0.0.1:1080",
		},
		{host, Endpoint{Via: "exec:kubectl --token=secret {port}"}, "app", "", "", "iamproxy check " + host + " --user app --via exec:COMMAND"},
	} {
		e, err := Parse(t.Context(), test.endpoint, test.flags)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.CheckCommand(test.user, test.database, test.caFile); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// The name of a user with a comma is not a list of users.
func TestCommandOfList(t *testing.T) {
	e := Endpoint{Host: "h", Port: defaultPort, User: "a,b"}
	for command, want := range map[string]string{"grant": `iamproxy grant h --user 'a\,b'`, "check": "iamproxy check h --user a,b"} {
		if got := e.Command(command); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
