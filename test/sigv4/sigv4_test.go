package sigv4_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	host   = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	port   = "5432"
	region = "eu-west-1"
	user   = "app user+ü/1"

	dsqlHost = "foo0bar1baz2quux3quuux4.dsql.eu-west-1.on.aws"
)

var (
	longLived = sigv4.Key{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	temporary = sigv4.Key{
		AccessKeyID:     "ASIAIOSFODNN7EXAMPLE",
		SecretAccessKey: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
		SessionToken:    "IQoJ/+=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("session~", 90))),
	}
)

// find returns both keys.
func find(id string) (sigv4.Key, bool) {
	for _, k := range []sigv4.Key{longLived, temporary} {
		if k.AccessKeyID == id {
			return k, true
		}
	}
	return sigv4.Key{}, false
}

// mint signs a token with the SDK.
func mint(tb testing.TB, key sigv4.Key) string {
	tb.Helper()
	provider := credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.SessionToken)
	token, err := auth.BuildAuthToken(context.Background(), host+":"+port, region, user, provider)
	if err != nil {
		tb.Fatal(err)
	}
	// Some releases of the SDK omit the path; the signature is the same.
	if !strings.Contains(token, "/?") {
		token = strings.Replace(token, "?", "/?", 1)
	}
	return token
}

func TestVerifySDKTokens(t *testing.T) {
	for name, key := range map[string]sigv4.Key{"long-lived": longLived, "temporary": temporary} {
		t.Run(name, func(t *testing.T) {
			before := time.Now().UTC().Truncate(time.Second)
			token := mint(t, key)
			got, err := sigv4.Verify(token, find, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got.SignedAt.Before(before) || got.SignedAt.After(time.Now()) {
				t.Errorf("signed at %v, not between %v and now", got.SignedAt, before)
			}
			want := sigv4.Claims{
				Host: host + ":" + port, Path: "/", Action: "connect", User: user,
				Region: region, Service: "rds-db", AccessKeyID: key.AccessKeyID,
				HasSessionToken: key.SessionToken != "",
				SignedAt:        got.SignedAt, Expires: 15 * time.Minute,
			}
			if got != want {
				t.Errorf("claims %+v\nwant   %+v", got, want)
			}
			if parsed, err := sigv4.Parse(token); err != nil || parsed != want {
				t.Errorf("Parse: %+v, %v", parsed, err)
			}
			// The order of parameters and an omitted path do not change the signature.
			target, query, _ := strings.Cut(token, "/?")
			first, rest, _ := strings.Cut(query, "&")
			if got, err := sigv4.Verify(target+"?"+rest+"&"+first, find, time.Now()); err != nil || got.Path != "" {
				t.Errorf("reordered, without a path: path %q, %v", got.Path, err)
			}
		})
	}
}

// mintDSQL signs a token of Aurora DSQL, for a week.
func mintDSQL(tb testing.TB, key sigv4.Key) string {
	tb.Helper()
	request, err := http.NewRequest(http.MethodGet, "https://"+dsqlHost+"/?Action=DbConnect&X-Amz-Expires=604800", nil)
	if err != nil {
		tb.Fatal(err)
	}
	token, _, err := v4.NewSigner().PresignHTTP(context.Background(), awsKey(key), request, hashOf(nil), "dsql", region, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimPrefix(token, "https://")
}

func TestVerifyDSQL(t *testing.T) {
	token := mintDSQL(t, temporary)
	got, err := sigv4.Verify(token, find, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := sigv4.Claims{
		Host: dsqlHost, Path: "/", Action: "DbConnect", Region: region, Service: "dsql",
		AccessKeyID: temporary.AccessKeyID, HasSessionToken: true,
		SignedAt: got.SignedAt, Expires: 7 * 24 * time.Hour,
	}
	if got != want {
		t.Errorf("claims %+v\nwant   %+v", got, want)
	}
	if _, err := sigv4.Verify(token+"&DBUser=x", find, time.Now()); !errors.Is(err, sigv4.ErrSignature) {
		t.Errorf("with a user: %v", err)
	}
}

// TestVerifyKeyExpired shows that the expiration of a key does not invalidate its
// signatures.
func TestVerifyKeyExpired(t *testing.T) {
	key := longLived
	key.Expires = time.Now().Add(-time.Hour)
	held := func(string) (sigv4.Key, bool) { return key, true }
	if _, err := sigv4.Verify(mint(t, longLived), held, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestVerifyTime(t *testing.T) {
	token := mint(t, longLived)
	claims, err := sigv4.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		want  error
	}{
		{-sigv4.MaxSkew - time.Second, sigv4.ErrNotYetValid},
		{-sigv4.MaxSkew, nil},
		{0, nil},
		{claims.Expires - time.Nanosecond, nil},
		{claims.Expires, sigv4.ErrExpired},
		{24 * time.Hour, sigv4.ErrExpired},
	} {
		if _, err := sigv4.Verify(token, find, claims.SignedAt.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("%v after signing: %v, want %v", c.after, err, c.want)
		}
	}
}

func TestVerifyTampered(t *testing.T) {
	token := mint(t, temporary)
	claims, err := sigv4.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	date, stamp := claims.SignedAt.Format("20060102"), claims.SignedAt.Format("20060102T150405Z")
	otherDate := claims.SignedAt.AddDate(0, 0, -1).Format("20060102")
	lastDigit := token[len(token)-1:]
	otherDigit := "0"
	if lastDigit == "0" {
		otherDigit = "1"
	}
	for _, c := range []struct {
		name, from, to string
		want           error
	}{
		{"host", "mydb.", "yourdb.", sigv4.ErrSignature},
		{"port", ":5432/", ":5433/", sigv4.ErrSignature},
		{"path", "/?", "/x?", sigv4.ErrSignature},
		{"user", "DBUser=app", "DBUser=adm", sigv4.ErrSignature},
		{"action", "Action=connect", "Action=disconnect", sigv4.ErrSignature},
		{"region", "%2Feu-west-1%2F", "%2Feu-west-2%2F", sigv4.ErrSignature},
		{"service", "%2Frds-db%2F", "%2Frds%2F", sigv4.ErrSignature},
		{"time", "T" + stamp[9:], "T" + claims.SignedAt.Add(shift(claims.SignedAt)).Format("150405Z"), sigv4.ErrSignature},
		{"date, everywhere", date, otherDate, sigv4.ErrSignature},
		{"date of the scope", "%2F" + date, "%2F" + otherDate, sigv4.ErrMalformed},
		{"expires", "X-Amz-Expires=900", "X-Amz-Expires=901", sigv4.ErrSignature},
		{"expires in the next century", "X-Amz-Expires=900", "X-Amz-Expires=3155760000", sigv4.ErrMalformed},
		{"access key", temporary.AccessKeyID, "ASIAIOSFODNN8EXAMPLE", sigv4.ErrUnknownKey},
		{"access key of another", temporary.AccessKeyID, longLived.AccessKeyID, sigv4.ErrSessionToken},
		{"session token", "X-Amz-Security-Token=IQoJ", "X-Amz-Security-Token=IQoK", sigv4.ErrSessionToken},
		{"session token's name", "X-Amz-Security-Token=", "X-Amz-Security-Tokem=", sigv4.ErrSessionToken},
		{"empty session token", "X-Amz-Security-Token=", "X-Amz-Security-Token=&x=", sigv4.ErrMalformed},
		{"signature", "X-Amz-Signature=" + token[len(token)-64:], "X-Amz-Signature=" + token[len(token)-64:len(token)-1] + otherDigit, sigv4.ErrSignature},
		{"signature cut short", token[len(token)-64:], token[len(token)-64 : len(token)-1], sigv4.ErrMalformed},
		{"signed headers", "SignedHeaders=host", "SignedHeaders=host%3Bdate", sigv4.ErrMalformed},
		{"algorithm", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", sigv4.ErrMalformed},
		{"a parameter more", "/?", "/?a=b&", sigv4.ErrSignature},
		{"a parameter twice", "/?", "/?Action=connect&", sigv4.ErrMalformed},
		{"plus for a space", "app%20user", "app+user", sigv4.ErrSignature},
		{"bad encoding", "app%20user", "app%2user%zz", sigv4.ErrMalformed},
		{"no port", ":5432/", "/", sigv4.ErrSignature},
		{"bad port", ":5432/", ":x/", sigv4.ErrMalformed},
		{"no host", host + ":5432/", "/", sigv4.ErrMalformed},
		{"no user", "DBUser=", "DBUsers=", sigv4.ErrSignature},
		{"empty user", "DBUser=", "DBUser=&x=", sigv4.ErrMalformed},
		{"no action", "Action=", "action=", sigv4.ErrMalformed},
		{"scheme", "mydb.", "https://mydb.", sigv4.ErrMalformed},
		{"no query", "?", "", sigv4.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(token, c.from) {
				t.Fatalf("token has no %q", c.from)
			}
			changed := strings.ReplaceAll(token, c.from, c.to)
			_, err := sigv4.Verify(changed, find, claims.SignedAt)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			assertNoSecret(t, err, changed)
		})
	}
}

// shift is a second that stays within the day.
func shift(at time.Time) time.Duration {
	if at.Add(time.Second).Day() != at.Day() {
		return -time.Second
	}
	return time.Second
}

// assertNoSecret fails when err quotes the token's value of any parameter.
func assertNoSecret(t *testing.T, err error, token string) {
	t.Helper()
	if err == nil {
		return
	}
	for _, secret := range []string{token, temporary.SecretAccessKey, temporary.SessionToken, token[len(token)-60:]} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error contains a secret: %v", err)
		}
	}
}

func TestVerifyWrongKeys(t *testing.T) {
	for _, c := range []struct {
		name         string
		signed, held sigv4.Key
		want         error
	}{
		{"another secret", longLived, sigv4.Key{AccessKeyID: longLived.AccessKeyID, SecretAccessKey: "other"}, sigv4.ErrSignature},
		{"a newer session", temporary, sigv4.Key{AccessKeyID: temporary.AccessKeyID, SecretAccessKey: temporary.SecretAccessKey, SessionToken: "newer"}, sigv4.ErrSessionToken},
		{"session token left out", sigv4.Key{AccessKeyID: temporary.AccessKeyID, SecretAccessKey: temporary.SecretAccessKey}, temporary, sigv4.ErrSessionToken},
		{"session token with a long-lived key", sigv4.Key{AccessKeyID: longLived.AccessKeyID, SecretAccessKey: longLived.SecretAccessKey, SessionToken: "x"}, longLived, sigv4.ErrSessionToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := func(string) (sigv4.Key, bool) { return c.held, true }
			if _, err := sigv4.Verify(mint(t, c.signed), held, time.Now()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(mint(f, longLived))
	f.Add(mint(f, temporary))
	f.Add(mintDSQL(f, temporary))
	f.Add("")
	f.Add("?")
	f.Add("h:1/?a=%")
	now := time.Now()
	f.Fuzz(func(t *testing.T, token string) {
		parsed, parseErr := sigv4.Parse(token)
		verified, err := sigv4.Verify(token, find, now)
		if parsed != verified {
			t.Errorf("Parse and Verify disagree: %+v, %+v", parsed, verified)
		}
		if (parseErr != nil) != errors.Is(err, sigv4.ErrMalformed) {
			t.Errorf("Parse: %v; Verify: %v", parseErr, err)
		}
		// What verifies was signed by one of the keys, and must have the claims of a seed.
		rds := verified.Host == host+":"+port && verified.User == user
		dsql := verified.Host == dsqlHost && verified.User == ""
		if err == nil && !rds && !dsql {
			t.Errorf("forged: %+v", verified)
		}
	})
}
