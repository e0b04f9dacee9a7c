package auth

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/text"
)

// TestSettings verifies which settings Load refuses, and that no message has a value
// that may be a secret.
func TestSettings(t *testing.T) {
	const secret, keys = "TOPSECRET+/=TOPSECRET+/=TOPSECRET+/=TOPS", "aws_access_key_id = AKIAX\naws_secret_access_key = s\n"
	_, err := os.ReadFile("/does/not/exist")
	missing := text.WithoutPath(err).Error() // in the words of the system
	httpProxy := "http_proxy"
	if runtime.GOOS == "windows" { // where the two names are one variable
		httpProxy = "HTTP_PROXY"
	}
	for name, test := range map[string]struct {
		env     []string // name=value
		profile string   // settings of the profile p
		want    string   // the error; empty: none
	}{
		"region":                       {env: []string{"AWS_REGION=eusc-de-east-1"}},
		"region of STS without region": {env: []string{"AWS_REGION=aws-global"}},
		"zone for a region":            {env: []string{"AWS_REGION=eu-west-1a"}, want: `AWS_REGION "eu-west-1a" is not a region such as eu-west-1`},
		"password for a region":        {env: []string{"AWS_REGION=Hunter2Zq"}, want: `AWS_REGION is not a region such as eu-west-1`},
		"secret for a key":             {env: []string{`AWS_ACCESS_KEY_ID={"AccessKeyId":"AKIAX","SecretAccessKey":"` + secret + `"}`, "AWS_SECRET_ACCESS_KEY=s"}, want: `AWS_ACCESS_KEY_ID is not an access key ID, such as AKIAIOSFODNN7EXAMPLE`},
		"secret for a session token":   {env: []string{"AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_ACCESS_KEY=s", `AWS_SESSION_TOKEN={"a":"` + secret + `"}`}, want: `AWS_SESSION_TOKEN is not a session token`},
		"web identity token":           {env: []string{"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE=eyJhbGciOi.TOPSECRET.x"}, want: `AWS_WEB_IDENTITY_TOKEN_FILE is not the name of a file, but the token itself`},
		"words for a region":           {env: []string{"AWS_DEFAULT_REGION=eu west 1"}, want: `AWS_DEFAULT_REGION is not a region such as eu-west-1`},
		"secret for a region":          {env: []string{"AWS_REGION=" + secret}, want: `AWS_REGION is not a region such as eu-west-1`},
		"region of a profile":          {profile: "region = Ireland\n" + keys, want: `region "Ireland" of profile "p" is not a region such as eu-west-1`},
		"key without a secret":         {env: []string{"AWS_ACCESS_KEY_ID=AKIAX"}, want: "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"},
		"secret without a key":         {env: []string{"AWS_SECRET_ACCESS_KEY=" + secret}, want: "AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"},
		"old name without a key":       {env: []string{"AWS_SECRET_KEY=" + secret}, want: "AWS_SECRET_KEY is set without AWS_ACCESS_KEY_ID"},
		"key and old name":             {env: []string{"AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_KEY=s"}},
		"half a pair, and a profile":   {env: []string{"AWS_ACCESS_KEY_ID=AKIAX"}, profile: keys},
		"role without a token file":    {env: []string{"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/r"}, want: "AWS_ROLE_ARN is set without AWS_WEB_IDENTITY_TOKEN_FILE (--assume-role assumes a role with other credentials)"},
		"role that is not needed":      {env: []string{"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/r", "AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_ACCESS_KEY=s"}},
		"role in a container":          {env: []string{"AWS_ROLE_ARN=arn:aws:iam::111122223333:role/r", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:1"}},
		"token file without a role":    {env: []string{"AWS_WEB_IDENTITY_TOKEN_FILE=/x"}, want: "AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN"},
		"not a role":                   {env: []string{"AWS_ROLE_ARN=admin", "AWS_WEB_IDENTITY_TOKEN_FILE=/x"}, want: `AWS_ROLE_ARN "admin" is not the ARN of a role, such as arn:aws:iam::111122223333:role/name`},
		"role of China":                {env: []string{"AWS_ROLE_ARN=arn:aws-cn:iam::111122223333:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE=/x"}},
		"session name":                 {env: []string{"AWS_ROLE_SESSION_NAME=a b"}, want: "AWS_ROLE_SESSION_NAME is not 2 to 64 letters, digits and characters of _=,.@-"},
		"endpoint without a scheme":    {env: []string{"AWS_ENDPOINT_URL=localhost:4566"}, want: "AWS_ENDPOINT_URL is not a URL such as http://localhost:4566"},
		"endpoint with a password":     {env: []string{"AWS_ENDPOINT_URL_STS=user:" + secret + "@sts.example"}, want: "AWS_ENDPOINT_URL_STS is not a URL such as http://localhost:4566"},
		"endpoint of a profile":        {profile: "endpoint_url = sts.example\n" + keys, want: "endpoint_url is not a URL such as http://localhost:4566"},
		"endpoint of services":         {profile: "services = s\n" + keys + "[services s]\nsts =\n  endpoint_url = sts.example\n", want: "endpoint_url is not a URL such as http://localhost:4566"},
		"endpoint that is ignored":     {env: []string{"AWS_ENDPOINT_URL=x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"}},
		"endpoint of another service":  {env: []string{"AWS_ENDPOINT_URL_S3=x"}},
		"proxy":                        {env: []string{"HTTPS_PROXY=proxy.example:3128"}},
		"proxy with a password":        {env: []string{"https_proxy=http://user:pass@proxy.example:3128"}},
		"no proxy":                     {env: []string{"HTTPS_PROXY=ftp://user:" + secret + "@[x"}, want: "HTTPS_PROXY is not the URL of a proxy, such as http://proxy.example.com:3128"},
		"no proxy of HTTP":             {env: []string{"http_proxy=http://"}, want: httpProxy + " is not the URL of a proxy, such as http://proxy.example.com:3128"},
		"CA bundle that is missing":    {env: []string{"AWS_CA_BUNDLE=/does/not/exist"}, want: `AWS_CA_BUNDLE: could not read /does/not/exist: ` + missing},
		"CA bundle of a profile":       {profile: "ca_bundle = /does/not/exist\n" + keys, want: `ca_bundle: could not read /does/not/exist: ` + missing},
		"CA bundle with its content":   {env: []string{"AWS_CA_BUNDLE=-----BEGIN " + secret}, want: "AWS_CA_BUNDLE: could not read the file of AWS_CA_BUNDLE: " + missing},
		"container URI":                {env: []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=169.254.170.23"}, want: `AWS_CONTAINER_CREDENTIALS_FULL_URI "169.254.170.23" is not a URL such as http://169.254.170.23/v1/credentials`},
		"container URI of a stranger":  {env: []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://192.0.2.1/"}, want: "AWS_CONTAINER_CREDENTIALS_FULL_URI is not an https URL, or an http URL of this host or of 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]"},
		"container path":               {env: []string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=http://169.254.170.2/v2"}, want: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path that begins with "/"`},
		"container token":              {env: []string{"AWS_CONTAINER_AUTHORIZATION_TOKEN=" + secret + "\n" + secret}, want: "AWS_CONTAINER_AUTHORIZATION_TOKEN is not a token in one line"},
		"secret with a line break":     {env: []string{"AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_ACCESS_KEY=" + secret + "\n"}, want: "AWS_SECRET_ACCESS_KEY: the value begins or ends with white space or a line break; remove it"},
		"key in quotes":                {env: []string{`AWS_ACCESS_KEY_ID="AKIAX"`, "AWS_SECRET_ACCESS_KEY=" + secret}, want: "AWS_ACCESS_KEY_ID: the value is in quotes; remove them"},
		"region in quotes":             {env: []string{"AWS_REGION='eu-west-1'"}, want: "AWS_REGION: the value is in quotes; remove them"},
		"profile with a blank":         {env: []string{"AWS_PROFILE=dev "}, want: "AWS_PROFILE: the value begins or ends with white space or a line break; remove it"},
		"metadata endpoint":            {env: []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=169.254.169.254"}, want: `AWS_EC2_METADATA_SERVICE_ENDPOINT "169.254.169.254" is not a URL such as http://169.254.169.254`},
		"metadata mode":                {env: []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=ipv5"}, want: `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is not "IPv4" or "IPv6"`},
		"metadata disabled":            {env: []string{"AWS_EC2_METADATA_DISABLED=1"}, want: `AWS_EC2_METADATA_DISABLED "1" is not "true" or "false"`},
		"FIPS":                         {env: []string{"AWS_USE_FIPS_ENDPOINT=yes"}, want: `AWS_USE_FIPS_ENDPOINT "yes" is not "true" or "false"`},
		"retry mode":                   {env: []string{"AWS_RETRY_MODE=legacy"}, want: `AWS_RETRY_MODE "legacy" is not "standard" or "adaptive"`},
		"retry mode of a profile":      {profile: "retry_mode = legacy\n" + keys},
		"attempts":                     {env: []string{"AWS_MAX_ATTEMPTS=many"}, want: `AWS_MAX_ATTEMPTS "many" is not a number`},
		"role without a source":        {profile: "role_arn = arn:aws:iam::111122223333:role/r\n", want: `profile "p" has role_arn without source_profile or credential_source`},
		"source without a role":        {profile: "source_profile = default\n", want: `profile "p" has source_profile without role_arn`},
		"role with its own keys":       {profile: "role_arn = arn:aws:iam::111122223333:role/r\n" + keys},
		"token file of a profile":      {profile: "web_identity_token_file = /x\n", want: `profile "p" has web_identity_token_file without role_arn`},
		"credential_source":            {profile: "role_arn = arn:aws:iam::111122223333:role/r\ncredential_source = Env\n", want: `credential_source "Env" of profile "p" is not "Environment", "Ec2InstanceMetadata" or "EcsContainer"`},
		"empty environment":            {profile: "role_arn = arn:aws:iam::111122223333:role/r\ncredential_source = Environment\n", want: `profile "p" has credential_source = Environment without AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment`},
		"no container":                 {profile: "role_arn = arn:aws:iam::111122223333:role/r\ncredential_source = EcsContainer\n", want: `profile "p" has credential_source = EcsContainer without AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, which ECS sets in a task with a task role`},
		"duration":                     {profile: "role_arn = arn:aws:iam::111122223333:role/r\nduration_seconds = 60\n" + keys, want: `duration_seconds "60" of profile "p" is not a number from 900 to 43200`},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			t.Setenv("HTTPS_PROXY", "")
			t.Setenv("HTTP_PROXY", "")
			identity := &Identity{Region: testRegion}
			if test.profile != "" {
				t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", "[profile p]\n"+test.profile))
				identity.Profile = "p"
			}
			for _, variable := range test.env {
				name, value, _ := strings.Cut(variable, "=")
				t.Setenv(name, value)
			}
			err := identity.Load(t.Context())
			switch {
			case test.want == "" && err != nil, test.want != "" && (err == nil || err.Error() != test.want):
				t.Errorf("got %v, want %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "TOPSECRET"):
				t.Errorf("the message has a secret: %v", err)
			}
		})
	}
}

// TestCABundle verifies that a byte order mark is of no consequence.
func TestCABundle(t *testing.T) {
	emptyEnvironment(t)
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	bundle := file(t, t.TempDir(), "ca.pem", "\ufeff"+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	t.Setenv("AWS_CA_BUNDLE", bundle)
	load(t, "")
	t.Setenv("AWS_CA_BUNDLE", file(t, t.TempDir(), "empty.pem", "not PEM"))
	if err := (&Identity{}).Load(t.Context()); reasonOf(err) != ReasonSettingUnusable || !strings.HasSuffix(err.Error(), "has no certificate in PEM") {
		t.Errorf("got %v", err)
	}
}

// TestContainerHostResolvesLater verifies that Load succeeds although the host of
// the container credentials does not resolve, and that it is resolved again.
func TestContainerHostResolvesLater(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://agent.invalid/v1/credentials")
	identity := load(t, "")
	_, err := identity.fetch()
	if !isTemporary(err) || reasonOf(err) != ReasonContainerHostUnknown || !strings.Contains(err.Error(), `"agent.invalid"`) {
		t.Fatalf("got %s: %v", reasonOf(err), err)
	}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"AccessKeyId": "AKIAX", "SecretAccessKey": "s"}`))
	}))
	defer agent.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
	if _, err := identity.fetch(); err != nil {
		t.Error(err)
	}
}

// TestSourceErrors verifies that a failure of a source names the setting that leads
// to it.
func TestSourceErrors(t *testing.T) {
	dir := t.TempDir()
	missing, empty := dir+"/missing", file(t, dir, "empty", "\n")
	broken := file(t, dir, "broken", "TOPSECRET\n")
	agent := httptest.NewServer(http.NotFoundHandler())
	defer agent.Close()
	const role = "AWS_ROLE_ARN=arn:aws:iam::111122223333:role/r"
	for name, test := range map[string]struct {
		env     []string
		profile string
		reason  Reason
		want    string // parts of the message, separated by "..."
	}{
		"authorization token that is missing": {env: []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + missing},
			reason: ReasonTokenFileUnusable, want: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: could not read ...missing: "},
		"authorization token with a newline": {env: []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + broken},
			reason: ReasonTokenFileUnusable, want: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: ...broken contains a line break"},
		"web identity that is missing": {env: []string{role, "AWS_WEB_IDENTITY_TOKEN_FILE=" + missing},
			reason: ReasonTokenFileUnusable, want: "AWS_WEB_IDENTITY_TOKEN_FILE: could not read ...missing: "},
		"web identity with a ~": {env: []string{role, "AWS_WEB_IDENTITY_TOKEN_FILE=~/token"},
			reason: ReasonTokenFileUnusable, want: "AWS_WEB_IDENTITY_TOKEN_FILE: ~ does not stand for the home directory in this setting"},
		"web identity that is empty": {env: []string{role, "AWS_WEB_IDENTITY_TOKEN_FILE=" + empty, "AWS_ENDPOINT_URL_STS=" + agent.URL},
			reason: ReasonTokenFileUnusable, want: "AWS_WEB_IDENTITY_TOKEN_FILE: ...empty is empty"},
		"web identity of a profile": {profile: "role_arn = arn:aws:iam::111122223333:role/r\nweb_identity_token_file = " + missing + "\n",
			reason: ReasonTokenFileUnusable, want: "web_identity_token_file: could not read ...missing"},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			identity := &Identity{Region: testRegion}
			if test.profile != "" {
				t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", "[profile p]\n"+test.profile))
				identity.Profile = "p"
			}
			for _, variable := range test.env {
				name, value, _ := strings.Cut(variable, "=")
				t.Setenv(name, value)
			}
			if err := identity.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := identity.fetch()
			if reasonOf(err) != test.reason {
				t.Fatalf("got %s: %v, want %s", reasonOf(err), err, test.reason)
			}
			for _, part := range strings.Split(test.want, "...") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %s", err, test.want)
				}
			}
			if strings.Contains(err.Error(), "TOPSECRET") {
				t.Errorf("the message has a secret: %v", err)
			}
		})
	}
}

// TestUnreachableEndpoints verifies that the error of an endpoint or proxy that cannot
// be reached names the setting that leads to it.
func TestUnreachableEndpoints(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config", "[profile p]\nendpoint_url = http://profile.example/\naws_access_key_id = AKIAX\naws_secret_access_key = s\n"))
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	unknown := &net.DNSError{IsNotFound: true, Name: "sts.example"}
	unsent := func(to string, err error) error {
		return &smithyhttp.RequestSendError{Err: &url.Error{Op: "Post", URL: to, Err: err}}
	}
	for _, test := range []struct {
		name, value string // of a variable
		service     string
		err         error
		temporary   bool
		want        string // empty: another error
	}{
		{"AWS_ENDPOINT_URL", "http://user:TOPSECRET@sts.example:4566/x", "STS", unsent("http://user:***@sts.example:4566/x", unknown), true,
			`could not reach "sts.example:4566" (AWS_ENDPOINT_URL): DNS has no such name`},
		{"AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:1", "SSO", unsent("http://127.0.0.1:1/", refused), true, `could not reach "127.0.0.1:1" (AWS_ENDPOINT_URL_SSO): connection refused`},
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/x", "endpoint-credentials", unsent("http://127.0.0.1:1/x", refused), true,
			`could not reach "127.0.0.1:1" (AWS_CONTAINER_CREDENTIALS_FULL_URI): connection refused`},
		{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/x", "endpoint-credentials", unsent("http://169.254.170.2/x", refused), true, ""},
		{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", "ec2imds", unsent("http://127.0.0.1:1/latest", refused), false,
			`could not reach "127.0.0.1:1" (AWS_EC2_METADATA_SERVICE_ENDPOINT): connection refused`},
		{"AWS_ENDPOINT_URL", "", "STS", unsent("http://profile.example/", refused), true, `could not reach "profile.example" (endpoint_url): connection refused`},
		{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", "STS", unsent("https://sts.example/", refused), true, ""},
		{"AWS_ENDPOINT_URL", "http://sts.example", "STS", apiError(403, "AccessDenied"), false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(test.name, test.value)
			failed := load(t, "p").explain(operation(test.service, "Get", test.err), false)
			if (failed.Code == ReasonEndpointUnreachable) != (test.want != "") || !strings.Contains(failed.Error(), test.want) ||
				failed.temporary != test.temporary || strings.Contains(failed.Error(), "TOPSECRET") {
				t.Errorf("got %s: %v (temporary: %t)", failed.Code, failed, failed.temporary)
			}
		})
	}
}
