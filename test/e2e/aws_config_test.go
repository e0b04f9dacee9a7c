//go:build unix

package e2e

import (
	"cmp"
	"context"
	"errors"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// token runs `iamproxy token` with flags, and returns the access key ID of the token and
// the output to standard error.
func (s *sourceTest) token(t *testing.T, env []string, args ...string) (keyID, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binaryPath(t), append([]string{"token", aurora.DefaultHost, "--user=" + aurora.IAMUser}, args...)...)
	cmd.Env = env
	var text strings.Builder
	cmd.Stderr = &text
	out, _ := cmd.Output()
	keep(t, "token, standard error", text.String())
	_, keyID, _ = strings.Cut(string(out), "X-Amz-Credential=")
	keyID, _, _ = strings.Cut(keyID, "%2F")
	return keyID, text.String()
}

// TestReportEndpointURL verifies that AWS_ENDPOINT_URL and a profile's endpoint_url count for
// the requests that the SDK makes for the roles of profiles, web identities and SSO.
func TestReportEndpointURL(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, startCluster(t, &aurora.Cluster{}))
	s.aws.AddKey(jane, janeUser)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, WebIdentity: "a web identity token"})
	s.aws.AllowSSO(ssoAccess, account, "Developer")
	s.loggedIn("corp", time.Now().Add(time.Hour))
	url, nowhere := s.aws.URL(), "http://127.0.0.1:1"
	config := func(name, profile string) string {
		return "AWS_CONFIG_FILE=" + s.write(name, "[profile p]\n"+profile+"[profile base]\n"+keys(jane)+
			"[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n"+
			"[services local]\nsts =\n  endpoint_url = "+url+"/sts\nsso =\n  endpoint_url = "+url+"/sso\n")
	}
	const role = "role_arn = " + appRole + "\nsource_profile = base\n"
	const sso = "sso_session = corp\nsso_account_id = " + account + "\nsso_role_name = Developer\n"
	irsa := []string{"AWS_ROLE_ARN=" + appRole, "AWS_WEB_IDENTITY_TOKEN_FILE=" + s.write("web-identity", "a web identity token")}
	for name, test := range map[string]struct {
		env, args []string
	}{
		"AWS_ENDPOINT_URL_STS, role of the profile": {env: []string{"AWS_ENDPOINT_URL_STS=" + url + "/sts", config("1", role)}, args: []string{"--profile=p"}},
		"AWS_ENDPOINT_URL_STS is more specific":     {env: []string{"AWS_ENDPOINT_URL_STS=" + url + "/sts", "AWS_ENDPOINT_URL=" + nowhere, config("2", role)}, args: []string{"--profile=p"}},
		"AWS_ENDPOINT_URL, --assume-role":           {env: append(s.janes(), "AWS_ENDPOINT_URL="+url), args: []string{"--assume-role=" + appRole}},
		"AWS_ENDPOINT_URL, role of the profile":     {env: []string{"AWS_ENDPOINT_URL=" + url, config("3", role)}, args: []string{"--profile=p"}},
		"AWS_ENDPOINT_URL, IRSA":                    {env: append(irsa, "AWS_ENDPOINT_URL="+url)},
		"AWS_ENDPOINT_URL, SSO":                     {env: []string{"AWS_ENDPOINT_URL=" + url, config("4", sso)}, args: []string{"--profile=p"}},
		"AWS_ENDPOINT_URL wins over the profile":    {env: []string{"AWS_ENDPOINT_URL=" + url, config("5", role+"endpoint_url = "+nowhere+"\nservices = local\n")}, args: []string{"--profile=p"}},
		"endpoint_url of the profile":               {env: []string{config("6", role+"endpoint_url = "+url+"/sts\n")}, args: []string{"--profile=p"}},
		"endpoint_url of the profile, SSO":          {env: []string{config("7", sso+"endpoint_url = "+url+"/sso\n")}, args: []string{"--profile=p"}},
		"endpoint_url of AWS_PROFILE":               {env: []string{"AWS_PROFILE=p", config("8", role+"endpoint_url = "+url+"/sts\n")}},
		"services of the profile":                   {env: []string{config("9", role+"services = local\nendpoint_url = "+nowhere+"\n")}, args: []string{"--profile=p"}},
		"services of the profile, SSO":              {env: []string{config("10", sso+"services = local\n")}, args: []string{"--profile=p"}},
		"an empty AWS_ENDPOINT_URL is not set":      {env: []string{"AWS_ENDPOINT_URL=", config("11", role+"services = local\n")}, args: []string{"--profile=p"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append(bareEnvironment("AWS_ENDPOINT_URL_STS=", "HOME="+s.dir), test.env...)
			keyID, stderr := s.token(t, env, test.args...)
			if !strings.HasPrefix(keyID, "ASIA") {
				t.Errorf("access key %q: %s", keyID, stderr)
			}
		})
	}
}

// TestAWSEndpoints verifies which host is asked for credentials, by region and by the
// settings that change it.
func TestAWSEndpoints(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, nil)
	s.loggedIn("corp", time.Now().Add(time.Hour))
	web := []string{"AWS_ROLE_ARN=" + appRole, "AWS_WEB_IDENTITY_TOKEN_FILE=" + s.write("web-identity", "a web identity token")}
	config := func(name, profile string) string {
		return "AWS_CONFIG_FILE=" + s.write(name, "[profile p]\n"+profile+"[sso-session corp]\nsso_region = eu-central-1\nsso_start_url = https://corp.example/start\n")
	}
	role := "role_arn = " + appRole + "\n" + keys(jane)
	const sso = "sso_session = corp\nsso_account_id = " + account + "\nsso_role_name = Developer\n"
	for name, test := range map[string]struct {
		endpoint string // empty: one in eu-west-1
		env      []string
		want     string
	}{
		"region of the database":    {env: web, want: "sts.eu-west-1.amazonaws.com"},
		"China, of the database":    {endpoint: "mydb.cabcdefghijk.rds.cn-north-1.amazonaws.com.cn", env: web, want: "sts.cn-north-1.amazonaws.com.cn"},
		"AWS_REGION":                {env: append(web, "AWS_REGION=us-gov-west-1"), want: "sts.us-gov-west-1.amazonaws.com"},
		"AWS_DEFAULT_REGION":        {env: append(web, "AWS_DEFAULT_REGION=eusc-de-east-1"), want: "sts.eusc-de-east-1.amazonaws.eu"},
		"isolated":                  {env: append(web, "AWS_REGION=us-iso-east-1"), want: "sts.us-iso-east-1.c2s.ic.gov"},
		"isolated, too":             {env: append(web, "AWS_REGION=us-isob-east-1"), want: "sts.us-isob-east-1.sc2s.sgov.gov"},
		"region of the profile":     {env: []string{"AWS_PROFILE=p", config("region", role+"region = ap-south-1\n")}, want: "sts.ap-south-1.amazonaws.com"},
		"no region":                 {env: append(web, "AWS_REGION=aws-global"), want: "sts.amazonaws.com"},
		"AWS_USE_FIPS_ENDPOINT":     {env: append(web, "AWS_USE_FIPS_ENDPOINT=true", "AWS_REGION=us-east-1"), want: "sts-fips.us-east-1.amazonaws.com"},
		"use_fips_endpoint":         {env: []string{"AWS_PROFILE=p", config("fips", role+"region = us-east-2\nuse_fips_endpoint = true\n")}, want: "sts-fips.us-east-2.amazonaws.com"},
		"use_dualstack_endpoint":    {env: []string{"AWS_PROFILE=p", config("dual", role+"use_dualstack_endpoint = true\n")}, want: "sts.eu-west-1.api.aws"},
		"sts_regional_endpoints":    {env: append(web, "AWS_STS_REGIONAL_ENDPOINTS=legacy", "AWS_REGION=us-east-1"), want: "sts.us-east-1.amazonaws.com"},
		"region of SSO":             {env: []string{"AWS_PROFILE=p", config("sso", sso)}, want: "portal.sso.eu-central-1.amazonaws.com"},
		"endpoint URLs are ignored": {env: append(web, "AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"), want: "sts.eu-west-1.amazonaws.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			asked := make(chan string, 100)
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Host
				w.WriteHeader(http.StatusBadGateway)
				cancel()
			}))
			defer proxy.Close()
			cmd := exec.CommandContext(ctx, binaryPath(t), "token", cmp.Or(test.endpoint, aurora.DefaultHost), "--user=u")
			cmd.Env = append(append(bareEnvironment("AWS_ENDPOINT_URL_STS=", "HOME="+s.dir), test.env...), "HTTPS_PROXY="+proxy.URL)
			out, _ := combinedOutput(t, cmd)
			select {
			case host := <-asked:
				if host != test.want+":443" {
					t.Errorf("asked %s, want %s", host, test.want)
				}
			default:
				t.Errorf("no request: %s", out)
			}
		})
	}
}

// TestReportHTTPProxy verifies that a failure at the HTTP proxy names the variable, and that
// a proxy that inspects TLS is told from a host that cannot be reached.
func TestReportHTTPProxy(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(refusing.Close)
	inspected := httptest.NewUnstartedServer(http.NotFoundHandler())
	inspected.Config.ErrorLog = stdlog.New(io.Discard, "", 0) // that the client hung up
	inspected.StartTLS()
	t.Cleanup(inspected.Close)
	inspecting := startHTTPProxy(t, map[string]string{"sts.eu-west-1.amazonaws.com:443": inspected.Listener.Addr().String()})
	closed := conntest.ClosedAddress(t)
	for name, test := range map[string]struct{ proxy, want string }{
		"nothing listens": {"user:" + newSecret("a password of an HTTP proxy") + "@" + closed,
			`could not reach "sts.eu-west-1.amazonaws.com" through the HTTP proxy "` + closed + `" (HTTPS_PROXY): connection refused`},
		"refusing":   {refusing.URL, `" (HTTPS_PROXY): Proxy Authentication Required`},
		"inspecting": {inspecting.url, `the certificate of "sts.eu-west-1.amazonaws.com" is not trusted: `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			cmd := exec.CommandContext(ctx, binaryPath(t), "check", aurora.DefaultHost, "--user=u", "--assume-role="+appRole)
			cmd.Env = append(keyEnvironment(jane), "AWS_ENDPOINT_URL_STS=", "HTTPS_PROXY="+test.proxy)
			if out, _ := combinedOutput(t, cmd); !strings.Contains(string(out), test.want) {
				t.Errorf("got %s", out)
			}
		})
	}
}

// TestReportEndpointURLLeadsNowhere verifies that an endpoint that cannot be reached is a
// warning at the start, although the credentials do not need it.
func TestReportEndpointURLLeadsNowhere(t *testing.T) {
	t.Parallel()
	env := append(keyEnvironment(jane), "AWS_ENDPOINT_URL_STS=", "AWS_ENDPOINT_URL=http://nowhere.invalid")
	p := startProxy(t, env, aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0")
	until(t, "the warning", func() bool { return p.lastLine("could not request the identity from STS").Level == "warn" })
	line := p.lastLine("could not request the identity from STS")
	if want := `could not reach "nowhere.invalid" (AWS_ENDPOINT_URL): `; !strings.HasPrefix(line.Error, want) || line.Hint == "" {
		t.Errorf("logged %+v", line)
	}
}

// TestReportSettingsInErrors verifies that a client's error names the file or the setting,
// and that what may pass is 57P03.
func TestReportSettingsInErrors(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	dir := t.TempDir()
	for name, test := range map[string]struct {
		env                   []string
		sqlstate, error, hint string
	}{
		"file that is missing": {[]string{"AWS_SHARED_CREDENTIALS_FILE=" + dir + "/nowhere"}, "28000",
			"/nowhere does not exist (AWS_SHARED_CREDENTIALS_FILE)", "Correct the path in AWS_SHARED_CREDENTIALS_FILE, or unset it."},
		"file that is a directory": {[]string{"AWS_CONFIG_FILE=" + dir}, "28000", " is a directory, not a file", "Set AWS_CONFIG_FILE to the path of a file."},
		"host that does not resolve": {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://agent.invalid/"}, "57P03",
			`could not resolve "agent.invalid", the host of AWS_CONTAINER_CREDENTIALS_FULL_URI`, "Check the name. The next login resolves it again."},
		"token file that is missing": {[]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:9/", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + dir + "/token"}, "28000",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: could not read " + dir + "/token: no such file or directory", "Check that the platform mounts this file"},
		"endpoint that does not resolve": {append(keyEnvironment(jane), "AWS_ENDPOINT_URL_STS=", "AWS_ENDPOINT_URL=http://nowhere.invalid", "IAMPROXY_ASSUME_ROLE="+appRole), "57P03",
			`could not reach "nowhere.invalid" (AWS_ENDPOINT_URL): `, "Check that this is the right address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, append(bareEnvironment(), test.env...), clusterArgs(cluster, "--connect-timeout=2s")...)
			var failed *pgconn.PgError
			if err := p.logIn(aurora.IAMUser); !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if failed.Code != test.sqlstate || !strings.Contains(failed.Message, test.error) || !strings.Contains(failed.Hint, test.hint) {
				t.Errorf("got %s: %s\nHINT: %s", failed.Code, failed.Message, failed.Hint)
			}
		})
	}
}
