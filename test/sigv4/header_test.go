package sigv4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

const body = "Action=GetCallerIdentity&Version=2011-06-15"

func awsKey(key sigv4.Key) aws.Credentials {
	return aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.SessionToken}
}

func hashOf(body []byte) string {
	hash := sha256.Sum256(body)
	return hex.EncodeToString(hash[:])
}

// post is a request with everything that is signed in a way of its own.
func post(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header["X-Amz-Meta-Spaces"] = []string{"  a   b ", "c"}
	r.Header.Set("User-Agent", "is not signed")
	return r
}

// signHeader has the SDK sign a request of body.
func signHeader(t *testing.T, r *http.Request, key sigv4.Key, at time.Time) {
	t.Helper()
	err := v4.NewSigner().SignHTTP(context.Background(), awsKey(key), r, hashOf([]byte(body)), "sts", region, at)
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerifyHeader sends the requests, because a server sees them otherwise than
// who made them.
func TestVerifyHeader(t *testing.T) {
	var id string
	var verifyErr error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		id, verifyErr = sigv4.VerifyHeader(r, body, find, time.Now())
	}))
	defer server.Close()
	for name, key := range map[string]sigv4.Key{"long-lived": longLived, "temporary": temporary} {
		for _, target := range []string{"", "/", "/a%20b/%C3%A9?b=2&a=%2F%20+&a=&c=~"} {
			t.Run(name+" "+target, func(t *testing.T) {
				r := post(t, server.URL+target)
				signHeader(t, r, key, time.Now())
				response, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if verifyErr != nil || id != key.AccessKeyID {
					t.Errorf("%q, %v", id, verifyErr)
				}
			})
		}
	}
}

func TestVerifyHeaderTime(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	r := post(t, "http://sts.example/")
	signHeader(t, r, longLived, at)
	for _, c := range []struct {
		after time.Duration
		want  error
	}{
		{-sigv4.MaxSkew - time.Second, sigv4.ErrNotYetValid},
		{-sigv4.MaxSkew, nil},
		{0, nil},
		{sigv4.MaxSkew - time.Nanosecond, nil},
		{sigv4.MaxSkew, sigv4.ErrExpired},
	} {
		id, err := sigv4.VerifyHeader(r, []byte(body), find, at.Add(c.after))
		if !errors.Is(err, c.want) || id != longLived.AccessKeyID {
			t.Errorf("%v after signing: %q, %v, want %v", c.after, id, err, c.want)
		}
	}
}

func TestVerifyHeaderTampered(t *testing.T) {
	// edit changes the Authorization header.
	edit := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			value := r.Header.Get("Authorization")
			if !strings.Contains(value, from) {
				t.Fatalf("no %q in %s", from, value)
			}
			r.Header.Set("Authorization", strings.Replace(value, from, to, 1))
		}
	}
	set := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	at := time.Now().UTC()
	for _, c := range []struct {
		name   string
		tamper func(*http.Request)
		want   error
	}{
		{"nothing", func(*http.Request) {}, nil},
		{"what is not signed", set("User-Agent", "another"), nil},
		{"spaces", set("X-Amz-Meta-Spaces", "a b", "c"), nil},
		{"method", func(r *http.Request) { r.Method = http.MethodPut }, sigv4.ErrSignature},
		{"path", func(r *http.Request) { r.URL.Path = "/x" }, sigv4.ErrSignature},
		{"query", func(r *http.Request) { r.URL.RawQuery = "a=b" }, sigv4.ErrSignature},
		{"bad query", func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, sigv4.ErrMalformed},
		{"host", func(r *http.Request) { r.Host = "other.example" }, sigv4.ErrSignature},
		{"length", func(r *http.Request) { r.ContentLength++ }, sigv4.ErrSignature},
		{"type", set("Content-Type", "text/plain"), sigv4.ErrSignature},
		{"one value of two", set("X-Amz-Meta-Spaces", "a b"), sigv4.ErrSignature},
		{"a signed header missing", func(r *http.Request) { r.Header.Del("Content-Type") }, sigv4.ErrMalformed},
		{"one more of Amazon's", set("X-Amz-Other", "x"), sigv4.ErrMalformed},
		{"time", set("X-Amz-Date", at.Add(shift(at)).Format("20060102T150405Z")), sigv4.ErrSignature},
		{"day", set("X-Amz-Date", at.AddDate(0, 0, 1).Format("20060102T150405Z")), sigv4.ErrMalformed},
		{"no time", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, sigv4.ErrMalformed},
		{"access key", edit(temporary.AccessKeyID, "ASIAOTHER"), sigv4.ErrUnknownKey},
		{"session token", set("X-Amz-Security-Token", "other"), sigv4.ErrSessionToken},
		{"session token missing", func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, sigv4.ErrMalformed},
		{"no session token", func(r *http.Request) {
			r.Header.Del("X-Amz-Security-Token")
			edit(";x-amz-security-token", "")(r)
		}, sigv4.ErrSessionToken},
		{"empty session token", set("X-Amz-Security-Token", ""), sigv4.ErrMalformed},
		{"region", edit("/"+region+"/", "/us-east-1/"), sigv4.ErrSignature},
		{"service", edit("/sts/", "/sso/"), sigv4.ErrSignature},
		{"scope", edit("aws4_request", "aws5_request"), sigv4.ErrMalformed},
		{"algorithm", edit("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), sigv4.ErrMalformed},
		{"signature", edit("Signature=", "Signature=0"), sigv4.ErrMalformed},
		{"no signature", edit(", Signature=", ", Signatures="), sigv4.ErrMalformed},
		{"a field twice", edit(", SignedHeaders=", ", Signature=, SignedHeaders="), sigv4.ErrMalformed},
		{"host not signed", edit("host;", ""), sigv4.ErrMalformed},
		{"type not signed", edit("content-type;", ""), sigv4.ErrSignature},
		{"headers not in order", edit("content-length;content-type", "content-type;content-length"), sigv4.ErrMalformed},
		{"a header twice", edit("host;", "host;host;"), sigv4.ErrMalformed},
		{"in upper case", edit("host;", "HOST;"), sigv4.ErrMalformed},
		{"not signed", func(r *http.Request) { r.Header.Del("Authorization") }, sigv4.ErrMalformed},
		{"signed twice", func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, sigv4.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := post(t, "http://sts.example/")
			signHeader(t, r, temporary, at)
			c.tamper(r)
			id, err := sigv4.VerifyHeader(r, []byte(body), find, at)
			if !errors.Is(err, c.want) || (id == "") != errors.Is(err, sigv4.ErrMalformed) {
				t.Errorf("%q, %v, want %v", id, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), temporary.SecretAccessKey) {
				t.Errorf("error contains a secret: %v", err)
			}
		})
	}
	r := post(t, "http://sts.example/")
	signHeader(t, r, temporary, at)
	other := bytes.ToUpper([]byte(body))
	if _, err := sigv4.VerifyHeader(r, other, find, at); !errors.Is(err, sigv4.ErrSignature) {
		t.Errorf("another body: %v", err)
	}
	stolen := temporary
	stolen.SecretAccessKey = longLived.SecretAccessKey
	signHeader(t, r, stolen, at)
	if _, err := sigv4.VerifyHeader(r, []byte(body), find, at); !errors.Is(err, sigv4.ErrSignature) {
		t.Errorf("another secret: %v", err)
	}
}
