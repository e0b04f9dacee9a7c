package auth

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/service/signin"
	"github.com/aws/aws-sdk-go-v2/service/signin/types"
	"go.uber.org/zap"
)

// fakeSignin renews a session with refresh tokens that are valid once: 1, 2 and so on.
type fakeSignin struct{ requests []string }

func (f *fakeSignin) CreateOAuth2Token(_ context.Context, in *signin.CreateOAuth2TokenInput, _ ...func(*signin.Options)) (*signin.CreateOAuth2TokenOutput, error) {
	f.requests = append(f.requests, aws.ToString(in.TokenInput.RefreshToken))
	n := string(rune('0' + len(f.requests)))
	return &signin.CreateOAuth2TokenOutput{TokenOutput: &types.CreateOAuth2TokenResponseBody{
		AccessToken:  &types.AccessToken{AccessKeyId: aws.String("ASIA" + n), SecretAccessKey: aws.String("s"), SessionToken: aws.String("t")},
		ExpiresIn:    aws.Int32(900),
		RefreshToken: aws.String(n),
	}}, nil
}

// TestLoginSessionIsKept verifies that a session of `aws login` whose file cannot be written
// is renewed in memory, with each refresh token once, and that a new file replaces it.
func TestLoginSessionIsKept(t *testing.T) {
	emptyEnvironment(t)
	dir := filepath.Join(t.TempDir(), "cache")
	t.Setenv("AWS_LOGIN_CACHE_DIRECTORY", dir)
	shared := config.SharedConfig{LoginSession: "arn:aws:iam::111122223333:user/u"}
	path, err := logincreds.StandardCachedTokenFilepath(shared.LoginSession, dir)
	if err != nil {
		t.Fatal(err)
	}
	logIn := func(refreshToken string, expires time.Time) {
		content, err := json.Marshal(map[string]any{
			"accessToken": map[string]any{"accessKeyId": "ASIAFILE" + refreshToken, "secretAccessKey": "s", "sessionToken": "t", "accountId": "1", "expiresAt": expires},
			"tokenType":   "aws_sigv4", "refreshToken": refreshToken, "clientId": "c", "dpopKey": "k",
		})
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil {
			err = os.RemoveAll(path)
		}
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		client := &fakeSignin{}
		provider := newLoginProvider(readOnly{client, path}, aws.Config{}, shared, zap.NewNop())
		expect := func(id string) {
			t.Helper()
			creds, err := provider.Retrieve(t.Context())
			if err != nil || creds.AccessKeyID != id || creds.Source != logincreds.ProviderName || !creds.Expires.After(time.Now()) {
				t.Errorf("got %s of %s until %v, %v, want %s", creds.AccessKeyID, creds.Source, creds.Expires, err, id)
			}
		}
		logIn("first", time.Now().Add(-time.Minute))
		expect("ASIA1")
		time.Sleep(time.Minute)
		logIn("first", time.Now().Add(-time.Minute))
		expect("ASIA1")
		time.Sleep(15 * time.Minute)
		logIn("first", time.Now().Add(-time.Minute))
		expect("ASIA2")
		if got := client.requests; len(got) != 2 || got[0] != "first" || got[1] != "1" {
			t.Errorf("refresh tokens %q", got)
		}
		logIn("second", time.Now().Add(time.Minute))
		expect("ASIAFILEsecond")
	})
}

// readOnly is a client whose answer cannot be written to the file at path: it makes a
// directory of it.
type readOnly struct {
	logincreds.TokenAPIClient
	path string
}

func (r readOnly) CreateOAuth2Token(ctx context.Context, in *signin.CreateOAuth2TokenInput, options ...func(*signin.Options)) (*signin.CreateOAuth2TokenOutput, error) {
	if err := errors.Join(os.Remove(r.path), os.Mkdir(r.path, 0o700)); err != nil {
		return nil, err
	}
	return r.TokenAPIClient.CreateOAuth2Token(ctx, in, options...)
}
