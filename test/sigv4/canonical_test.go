package sigv4

import "testing"

// TestPublishedExample is "An example of query string authentication" from the
// Amazon S3 API Reference, section "Authenticating Requests: Using Query
// Parameters (AWS Signature Version 4)".
func TestPublishedExample(t *testing.T) {
	const (
		secret    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
		timestamp = "20130524T000000Z"
		scope     = "20130524/us-east-1/s3/aws4_request"
		want      = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	)
	// Deliberately not in order.
	params := []param{
		{"X-Amz-SignedHeaders", "host"},
		{"X-Amz-Date", timestamp},
		{"X-Amz-Expires", "86400"},
		{"X-Amz-Credential", "AKIAIOSFODNN7EXAMPLE/" + scope},
		{"X-Amz-Algorithm", algorithm},
	}
	canonical := canonicalRequest("GET", "/test.txt", params, []param{{"host", "examplebucket.s3.amazonaws.com"}}, "UNSIGNED-PAYLOAD")
	const wantCanonical = "GET\n/test.txt\n" +
		"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\n" +
		"host:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD"
	if canonical != wantCanonical {
		t.Errorf("canonical request:\n%s\nwant:\n%s", canonical, wantCanonical)
	}
	if got := sign(secret, timestamp, scope, canonical); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestCanonicalForms(t *testing.T) {
	for path, want := range map[string]string{"": "/", "/": "/", "/a b": "/a%20b", "/a%20b": "/a%2520b"} {
		if got := canonicalPath(path); got != want {
			t.Errorf("canonicalPath(%q) = %q, want %q", path, got, want)
		}
	}
	query := canonicalQuery([]param{{"b", "1"}, {"a", "2"}, {"a", "+/= ~é*"}, {"B", ""}})
	if want := "B=&a=%2B%2F%3D%20~%C3%A9%2A&a=2&b=1"; query != want {
		t.Errorf("canonicalQuery: %q, want %q", query, want)
	}
}
