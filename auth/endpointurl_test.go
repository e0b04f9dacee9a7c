package auth

import "testing"

// TestEndpointURLs verifies the precedence of the settings of endpoint URLs. The
// requests are tested with the binary.
func TestEndpointURLs(t *testing.T) {
	const general, ofSTS, ofProfile, ofServices = "http://general", "http://sts", "http://profile", "http://services"
	for name, test := range map[string]struct {
		env     map[string]string
		profile string
		want    string
	}{
		"none":                   {},
		"general":                {env: map[string]string{"AWS_ENDPOINT_URL": general}, want: general},
		"of the service":         {env: map[string]string{"AWS_ENDPOINT_URL": general, "AWS_ENDPOINT_URL_STS": ofSTS}, want: ofSTS},
		"of another service":     {env: map[string]string{"AWS_ENDPOINT_URL_SSO": ofSTS}},
		"of the profile":         {profile: "endpoint_url = " + ofProfile, want: ofProfile},
		"of the services":        {profile: "services = s\nendpoint_url = " + ofProfile, want: ofServices},
		"variable and profile":   {env: map[string]string{"AWS_ENDPOINT_URL": general}, profile: "services = s\nendpoint_url = " + ofProfile, want: general},
		"ignored by a variable":  {env: map[string]string{"AWS_ENDPOINT_URL_STS": ofSTS, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}},
		"ignored by the profile": {env: map[string]string{"AWS_ENDPOINT_URL": general}, profile: "ignore_configured_endpoint_urls = true"},
		"ignored, all of them":   {env: map[string]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, profile: "services = s\nendpoint_url = " + ofProfile},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			t.Setenv("AWS_CONFIG_FILE", file(t, t.TempDir(), "config",
				"[profile p]\n"+test.profile+"\n[services s]\nsts =\n  endpoint_url = "+ofServices+"\n"))
			for variable, value := range test.env {
				t.Setenv(variable, value)
			}
			urls := endpoints{load(t, "p").loaded().(*chain).cfg}
			if got := urls.of("STS").url; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
