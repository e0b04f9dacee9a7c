package endpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
)

// A session has the credentials and the region of the endpoint, unless its target has its own.
// --assume-role is not for sessions. Sessions and endpoints with the same credentials share them.
func TestSessionForward(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("[profile dev]\n[profile ops]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", config)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:1")
	const role = "arn:aws:iam::111122223333:role/db"
	var identities Identities
	for _, test := range []struct {
		via    string
		signer Signer
		flags  string
		policy string // flags of the command that prints the policy
		shared bool   // with the tokens of the endpoint
	}{
		{"ssm://i-01", Signer{Profile: "dev"}, "--region eu-west-1 --profile dev", "--profile dev --via ssm://i-01", true},
		{"ssm://i-01", Signer{Profile: "dev", AssumeRole: role}, "--region eu-west-1 --profile dev", "--profile dev --assume-role " + role + " --via ssm://i-01", false},
		{"ssm://i-01?region=us-east-1&profile=ops", Signer{Profile: "dev"}, "--region us-east-1 --profile ops", "--profile dev --via 'ssm://i-01?profile=ops&region=us-east-1'", false},
	} {
		e, err := Parse(t.Context(), host, Endpoint{Via: test.via, Signer: test.signer})
		if err != nil {
			t.Fatal(err)
		}
		signing, err := identities.Load(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		forward, err := e.Forward(t.Context(), &identities, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, ok := forward.(*ssm.Forward)
		if !ok || f.Name != e.ViaName() || f.Host != host || f.Port != "5432" || f.Target.ID != "i-01" || f.CLIFlags != test.flags || f.PolicyCommand != "iamproxy policy "+host+" --user USER "+test.policy || !f.AllowHTTP {
			t.Errorf("%s: %+v", test.via, f)
		}
		session, _ := e.Session()
		opening, err := identities.loadSession(t.Context(), session)
		if err != nil || len(opening.Roles) > 0 || opening.Profile != session.Profile {
			t.Errorf("%s: opened by %+v, %v", test.via, opening, err)
		}
		if len(test.signer.AssumeRole) == 0 && (opening == signing) != test.shared {
			t.Errorf("%s: shared %v", test.via, opening == signing)
		}
	}
	e, err := Parse(t.Context(), host, Endpoint{Via: "ssm://i-01?profile=missing"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Forward(t.Context(), &identities, nil); err == nil || !strings.Contains(err.Error(), `via ssm://i-01?profile=missing: AWS configuration: there is no AWS profile "missing"`) {
		t.Errorf("%v", err)
	}
}
