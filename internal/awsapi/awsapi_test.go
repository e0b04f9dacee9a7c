package awsapi_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/internal/awsapi"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

var key = sigv4.Key{AccessKeyID: "ASIAJANE", SecretAccessKey: "jane's secret", SessionToken: "a/token+="}

// configure returns the configuration of the SDK for an environment with these settings and
// these lines in the profile.
func configure(t *testing.T, settings map[string]string, profile string) aws.Config {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "config")
	if err := os.WriteFile(file, []byte("[default]\n"+profile+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	t.Setenv("AWS_REGION", "eu-west-1")
	for name, value := range settings {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, time.Millisecond })
		}),
		config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.SessionToken}, nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// serve starts a server, and returns a configuration with its URL.
func serve(t *testing.T, handler http.HandlerFunc) aws.Config {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return configure(t, map[string]string{"AWS_ENDPOINT_URL": server.URL + "/path"}, "")
}

// verify fails unless the signature of a request is valid.
func verify(t *testing.T, r *http.Request, body []byte) {
	t.Helper()
	find := func(id string) (sigv4.Key, bool) { return key, id == key.AccessKeyID }
	if _, err := sigv4.VerifyHeader(r, body, find, time.Now()); err != nil {
		t.Error(err)
	}
}

const special = "a b&c=d/é\"+%"

func TestQuery(t *testing.T) {
	cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify(t, r, body)
		form, err := url.ParseQuery(string(body))
		if want := (url.Values{"Action": {"Look"}, "Version": {"2014-10-31"}, "Name": {special}}); err != nil || form.Encode() != want.Encode() {
			t.Errorf("%s, %v", body, err)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/path" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		fmt.Fprint(w, `<LookResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><LookResult><Found>one</Found></LookResult></LookResponse>`)
	})
	var result struct {
		XMLName xml.Name `xml:"LookResponse"`
		Found   string   `xml:"LookResult>Found"`
	}
	err := awsapi.New(cfg, awsapi.RDS).Call(t.Context(), "Look", map[string]string{"Name": special}, &result)
	if err != nil || result.Found != "one" {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestJSON(t *testing.T) {
	cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify(t, r, body)
		if want := `{"Name":"a b\u0026c=d/é\"+%"}`; string(body) != want {
			t.Errorf("%s, want %s", body, want)
		}
		if r.Method != http.MethodPost || r.URL.Path != "/path" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" ||
			r.Header.Get("X-Amz-Target") != "secretsmanager.Look" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		fmt.Fprint(w, `{"Found": "one", "Other": 1}`)
	})
	var result struct{ Found string }
	err := awsapi.New(cfg, awsapi.SecretsManager).Call(t.Context(), "Look", map[string]string{"Name": special}, &result)
	if err != nil || result.Found != "one" {
		t.Errorf("%+v, %v", result, err)
	}
}

// The parameters of a JSON action are of any shape, and the prefix of its name is that of the API.
func TestNestedJSON(t *testing.T) {
	cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify(t, r, body)
		if want := `{"Target":"i-01","Parameters":{"host":["db"]}}`; string(body) != want || r.Header.Get("X-Amz-Target") != "AmazonSSM.Look" {
			t.Errorf("%s, want %s, %v", body, want, r.Header)
		}
		fmt.Fprint(w, `{}`)
	})
	parameters := struct {
		Target     string
		Parameters map[string][]string
	}{"i-01", map[string][]string{"host": {"db"}}}
	if err := awsapi.New(cfg, awsapi.SSM).Call(t.Context(), "Look", parameters, &struct{}{}); err != nil {
		t.Error(err)
	}
}

// Parameters that have no form in the protocol are an error, and nothing is sent.
func TestInvalidParameters(t *testing.T) {
	cfg := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, service := range []awsapi.Service{awsapi.RDS, awsapi.SSM} {
		if err := awsapi.New(cfg, service).Call(t.Context(), "Look", func() {}, &struct{}{}); err == nil {
			t.Errorf("%+v: a function was sent", service)
		}
	}
}

// The requests go to the configured endpoint, or to the service's endpoint in the region.
func TestEndpoint(t *testing.T) {
	for name, test := range map[string]struct {
		env     map[string]string
		profile string
		want    string // empty: an error, without a request
	}{
		"default":                   {nil, "", "https://rds.eu-west-1.amazonaws.com/"},
		"region of the profile":     {map[string]string{"AWS_REGION": ""}, "region = cn-north-1", "https://rds.cn-north-1.amazonaws.com.cn/"},
		"FIPS":                      {map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, "", "https://rds-fips.eu-west-1.amazonaws.com/"},
		"FIPS of the profile":       {nil, "use_fips_endpoint = true", "https://rds-fips.eu-west-1.amazonaws.com/"},
		"dual stack":                {map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", "https://rds.eu-west-1.api.aws/"},
		"dual stack of the profile": {nil, "use_dualstack_endpoint = true", "https://rds.eu-west-1.api.aws/"},
		"URL":                       {map[string]string{"AWS_ENDPOINT_URL": "http://vpce:81/a"}, "", "http://vpce:81/a"},
		"URL of the service":        {map[string]string{"AWS_ENDPOINT_URL_RDS": "https://vpce"}, "endpoint_url = http://other", "https://vpce/"},
		"URL of another service":    {map[string]string{"AWS_ENDPOINT_URL_IAM": "https://vpce"}, "", "https://rds.eu-west-1.amazonaws.com/"},
		"URL of the profile":        {nil, "endpoint_url = http://vpce", "http://vpce/"},
		"URL in services":           {nil, "services = s\n[services s]\nrds =\n  endpoint_url = http://vpce", "http://vpce/"},
		"ignored URL":               {map[string]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "http://vpce"}, "", "https://rds.eu-west-1.amazonaws.com/"},
		"URL and FIPS":              {map[string]string{"AWS_ENDPOINT_URL": "http://vpce", "AWS_USE_FIPS_ENDPOINT": "true"}, "", ""},
		"URL and dual stack":        {map[string]string{"AWS_ENDPOINT_URL": "http://vpce", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", ""},
		"no region":                 {map[string]string{"AWS_REGION": ""}, "", ""},
		"path in the region":        {map[string]string{"AWS_REGION": "evil.test/"}, "", ""},
		"host in the region":        {map[string]string{"AWS_REGION": "x@evil.test:443"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configure(t, test.env, test.profile)
			got := ""
			cfg.HTTPClient = smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
				got = r.URL.String()
				return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody}, nil
			})
			err := awsapi.New(cfg, awsapi.RDS).Call(t.Context(), "Look", nil, nil)
			if err == nil || got != test.want {
				t.Errorf("request to %q, want %q: %v", got, test.want, err)
			}
		})
	}
}

// A failed request has the service's error, or none if the response is not from AWS. It is
// repeated once if that may help.
func TestErrors(t *testing.T) {
	const portal = "<html><body>log in<br></body></html>"
	xmlError := func(code string) string {
		return "<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>why</Message></Error><RequestId>1</RequestId></ErrorResponse>"
	}
	for name, test := range map[string]struct {
		service  awsapi.Service
		status   int
		header   string // X-Amzn-Errortype
		body     string
		code     string // empty: no APIError
		attempts int32
	}{
		"code":                 {awsapi.RDS, 404, "", xmlError("DBClusterNotFoundFault"), "DBClusterNotFoundFault", 1},
		"throttled":            {awsapi.RDS, 400, "", xmlError("Throttling"), "Throttling", 2},
		"busy":                 {awsapi.IAM, 503, "", xmlError("ServiceUnavailable"), "ServiceUnavailable", 2},
		"internal":             {awsapi.IAM, 500, "", "", awsapi.NoCode, 2},
		"gateway":              {awsapi.IAM, 502, "", portal, "", 2},
		"forbidden by a proxy": {awsapi.RDS, 403, "", "blocked", awsapi.NoCode, 1},
		"portal":               {awsapi.RDS, 200, "", portal, "", 1},
		"page":                 {awsapi.RDS, 200, "", "<html></html>", "", 1},
		"redirect":             {awsapi.RDS, 304, "", "", awsapi.NoCode, 1},
		"empty":                {awsapi.RDS, 200, "", "", "", 1},
		"truncated":            {awsapi.RDS, 200, "", "<LookResponse><LookResult/>", "", 1},
		"another action":       {awsapi.RDS, 200, "", "<SeeResponse></SeeResponse>", "", 1},
		"JSON code":            {awsapi.SecretsManager, 400, "", `{"__type": "com.amazon#AccessDeniedException", "Message": "why"}`, "AccessDeniedException", 1},
		"JSON header":          {awsapi.SecretsManager, 400, "ResourceNotFoundException:http://x", `{"message": "why"}`, "ResourceNotFoundException", 1},
		"JSON throttled":       {awsapi.SecretsManager, 400, "ThrottlingException", "{}", "ThrottlingException", 2},
		"JSON internal":        {awsapi.SecretsManager, 500, "", "", awsapi.NoCode, 2},
		"JSON portal":          {awsapi.SecretsManager, 200, "", portal, "", 1},
		"JSON forbidden":       {awsapi.SecretsManager, 403, "", portal, "", 1},
		"JSON empty":           {awsapi.SecretsManager, 200, "", "", "", 1},
		"JSON truncated":       {awsapi.SecretsManager, 200, "", `{"Found": "on`, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var attempts atomic.Int32
			cfg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				attempts.Add(1)
				if test.header != "" {
					w.Header().Set("X-Amzn-Errortype", test.header)
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			})
			var result struct {
				XMLName xml.Name `xml:"LookResponse" json:"-"`
				Found   string
			}
			err := awsapi.New(cfg, test.service).Call(t.Context(), "Look", nil, &result)
			var response *smithyhttp.ResponseError
			if !errors.As(err, &response) || response.HTTPStatusCode() != test.status {
				t.Fatalf("%v", err)
			}
			code := ""
			var answer smithy.APIError
			if errors.As(err, &answer) {
				code = answer.ErrorCode()
			}
			if code != test.code || attempts.Load() != test.attempts {
				t.Errorf("code %q, want %q, after %d attempts, want %d: %v", code, test.code, attempts.Load(), test.attempts, err)
			}
		})
	}
}

// The second attempt has another signature and succeeds.
func TestRetry(t *testing.T) {
	var attempts atomic.Int32
	cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		verify(t, r, body)
		if attempts.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "{}")
	})
	if err := awsapi.New(cfg, awsapi.SecretsManager).Call(t.Context(), "Look", nil, &struct{}{}); err != nil {
		t.Error(err)
	}
}

// If the clock of AWS is ahead, the second attempt is signed for it, and so are later calls.
func TestClockSkew(t *testing.T) {
	const ahead = time.Hour
	for _, disabled := range []string{"false", "true"} {
		attempts := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			attempts++
			now := time.Now().UTC().Add(ahead)
			w.Header().Set("Date", now.Format(http.TimeFormat))
			signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
			if err == nil && now.Sub(signed).Abs() < sigv4.MaxSkew {
				fmt.Fprint(w, "{}")
				return
			}
			w.Header().Set("X-Amzn-Errortype", "InvalidSignatureException")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, "{}")
		}))
		client := awsapi.New(configure(t, map[string]string{
			"AWS_ENDPOINT_URL": server.URL, "AWS_DISABLE_CLOCK_SKEW_CORRECTION": disabled}, ""), awsapi.SecretsManager)
		var failed []bool
		for range 2 {
			failed = append(failed, client.Call(t.Context(), "Look", nil, &struct{}{}) != nil)
		}
		server.Close()
		wantFailed, wantAttempts := []bool{false, false}, 3
		if disabled == "true" {
			wantFailed, wantAttempts = []bool{true, true}, 2
		}
		if !slices.Equal(failed, wantFailed) || attempts != wantAttempts {
			t.Errorf("correction disabled %s: failed %v, want %v, in %d attempts, want %d", disabled, failed, wantFailed, attempts, wantAttempts)
		}
	}
}

func TestCutResponse(t *testing.T) {
	cfg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "<LookResponse>")
	})
	err := awsapi.New(cfg, awsapi.RDS).Call(t.Context(), "Look", nil, &struct{}{})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestUserAgent(t *testing.T) {
	agent := ""
	cfg := configure(t, map[string]string{"AWS_SDK_UA_APP_ID": "billing"}, "")
	cfg.HTTPClient = smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
		agent = r.UserAgent()
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody}, nil
	})
	_ = awsapi.New(cfg, awsapi.RDS).Call(t.Context(), "Look", nil, nil)
	if !strings.HasPrefix(agent, "aws-sdk-go-v2/") || !strings.Contains(agent, "app/billing") {
		t.Error(agent)
	}
}
