package auth

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/service/signin"
	"go.uber.org/zap"
)

var loginSessions keptLogins[*signin.CreateOAuth2TokenOutput]

var errIncompleteLogin = errors.New("the answer to the renewal of the login has no credentials")

// loginProvider gets the credentials of a session of `aws login`.
type loginProvider struct {
	login    *keptLogin[*signin.CreateOAuth2TokenOutput]
	provider *logincreds.Provider
	log      *zap.Logger
}

// newLoginProvider returns the provider of a profile with a login_session, or nil if the
// path of its file is not known.
func newLoginProvider(client logincreds.TokenAPIClient, cfg aws.Config, shared config.SharedConfig, log *zap.Logger) aws.CredentialsProvider {
	path, err := logincreds.StandardCachedTokenFilepath(shared.LoginSession, os.Getenv("AWS_LOGIN_CACHE_DIRECTORY"))
	if err != nil {
		return nil
	}
	login := loginSessions.of(path)
	return &loginProvider{login, logincreds.New(loginRenewer{login, client}, path, func(o *logincreds.Options) {
		o.RestrictPermissions = cfg.RestrictFilePermissions != aws.RestrictFilePermissionsUnrestricted
	}), log}
}

// Retrieve returns the credentials of the session, which is renewed if they have expired.
func (p *loginProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p.login.mu.Lock()
	defer p.login.mu.Unlock()
	p.login.used = false
	creds, err := p.provider.Retrieve(ctx)
	if !p.login.survives(err, p.log) {
		return creds, err
	}
	token := p.login.renewed.TokenOutput.AccessToken
	return aws.Credentials{
		AccessKeyID:     aws.ToString(token.AccessKeyId),
		SecretAccessKey: aws.ToString(token.SecretAccessKey),
		SessionToken:    aws.ToString(token.SessionToken),
		CanExpire:       true,
		Expires:         p.login.expires,
		Source:          logincreds.ProviderName,
	}, nil
}

// loginRenewer is the client with which the SDK renews a session.
type loginRenewer struct {
	login  *keptLogin[*signin.CreateOAuth2TokenOutput]
	client logincreds.TokenAPIClient
}

// CreateOAuth2Token exchanges a refresh token for credentials.
func (r loginRenewer) CreateOAuth2Token(ctx context.Context, in *signin.CreateOAuth2TokenInput, options ...func(*signin.Options)) (*signin.CreateOAuth2TokenOutput, error) {
	out, left, err := r.login.exchange(aws.ToString(in.TokenInput.RefreshToken), func(refreshToken string) (*signin.CreateOAuth2TokenOutput, string, time.Duration, error) {
		in.TokenInput.RefreshToken = &refreshToken
		out, err := r.client.CreateOAuth2Token(ctx, in, options...)
		if err != nil {
			return nil, "", 0, err
		}
		if out.TokenOutput == nil || out.TokenOutput.AccessToken == nil {
			return nil, "", 0, errIncompleteLogin
		}
		return out, aws.ToString(out.TokenOutput.RefreshToken), time.Duration(aws.ToInt32(out.TokenOutput.ExpiresIn)) * time.Second, nil
	})
	if err != nil {
		return nil, err
	}
	answer, token := *out, *out.TokenOutput
	token.ExpiresIn = aws.Int32(int32(left / time.Second))
	answer.TokenOutput = &token
	return &answer, nil
}
