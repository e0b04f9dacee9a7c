package auth

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"github.com/aws/smithy-go/auth/bearer"
	"go.uber.org/zap"
)

// ssoProvider gets credentials from the portal of SSO with the login of an
// sso-session.
type ssoProvider struct {
	portal        *sso.Client
	login         *ssoLogin
	tokens        *ssocreds.SSOTokenProvider
	account, role string
	log           *zap.Logger
	err           error // of the path to the login's file
}

// newSSOProvider returns the provider of a profile with an sso-session.
func newSSOProvider(cfg aws.Config, shared config.SharedConfig, log *zap.Logger) *ssoProvider {
	cfg.Region = shared.SSOSession.SSORegion
	path, err := ssocreds.StandardCachedTokenFilepath(shared.SSOSession.Name)
	login := ssoLoginOf(path)
	p := &ssoProvider{portal: sso.NewFromConfig(cfg), login: login, account: shared.SSOAccountID, role: shared.SSORoleName, log: log, err: err}
	p.tokens = ssocreds.NewSSOTokenProvider(renewer{login, ssooidc.NewFromConfig(cfg)}, path)
	return p
}

// Retrieve returns the credentials of the role.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (p *ssoProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if p.err != nil {
		return aws.Credentials{}, p.err
	}
	token, err := p.login.token(ctx, p.tokens, p.log)
	if err != nil {
		return aws.Credentials{}, err
	}
	answer, err := p.portal.GetRoleCredentials(ctx, &sso.GetRoleCredentialsInput{AccessToken: &token.Value, AccountId: &p.account, RoleName: &p.role})
	if err != nil {
		return aws.Credentials{}, err
	}
	creds := answer.RoleCredentials
	return aws.Credentials{
		AccessKeyID:     aws.ToString(creds.AccessKeyId),
		SecretAccessKey: aws.ToString(creds.SecretAccessKey),
		SessionToken:    aws.ToString(creds.SessionToken),
		CanExpire:       true,
		Expires:         time.UnixMilli(creds.Expiration).UTC(),
		Source:          ssocreds.ProviderName,
		AccountID:       p.account,
	}, nil
}

// ssoLogin is the login of an sso-session, whose file the AWS CLI writes. The SDK renews
// it with a refresh token, which is valid once, and fails if it cannot write the new
// login to the file. ssoLogin keeps that one, so that a file that is read-only
// does not end the login.
type ssoLogin struct {
	mu      sync.Mutex // held while the login is renewed
	spent   string     // the refresh token in the file that was exchanged for renewed
	renewed *ssooidc.CreateTokenOutput
	expires time.Time // of renewed
	used    bool      // renewed is the answer to the last request
	warned  bool
}

var ssoLogins struct {
	mu     sync.Mutex
	byPath map[string]*ssoLogin
}

// ssoLoginOf returns the login with a file. All identities share it.
func ssoLoginOf(path string) *ssoLogin {
	ssoLogins.mu.Lock()
	defer ssoLogins.mu.Unlock()
	if ssoLogins.byPath == nil {
		ssoLogins.byPath = make(map[string]*ssoLogin)
	}
	if ssoLogins.byPath[path] == nil {
		ssoLogins.byPath[path] = new(ssoLogin)
	}
	return ssoLogins.byPath[path]
}

// token returns the access token of the login, which it renews if it has expired.
func (l *ssoLogin) token(ctx context.Context, tokens *ssocreds.SSOTokenProvider, log *zap.Logger) (bearer.Token, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = false
	token, err := tokens.RetrieveBearerToken(ctx)
	if err == nil || !l.used {
		return token, err
	}
	if !l.warned {
		l.warned = true
		log.Warn("the SSO login was renewed, but could not be written to its file; it is kept in memory until iamproxy exits", zap.Error(err))
	}
	return bearer.Token{Value: aws.ToString(l.renewed.AccessToken), CanExpire: true, Expires: l.expires}, nil
}

// renewer exchanges refresh tokens, and each of them once.
type renewer struct {
	login  *ssoLogin
	client ssocreds.CreateTokenAPIClient
}

// CreateToken implements the client of the SDK's provider. The file of the login has the
// refresh token that was spent if the new login could not be written to it.
func (r renewer) CreateToken(ctx context.Context, in *ssooidc.CreateTokenInput, options ...func(*ssooidc.Options)) (*ssooidc.CreateTokenOutput, error) {
	l, inFile := r.login, aws.ToString(in.RefreshToken)
	if l.renewed != nil && l.spent == inFile {
		if left := l.expires.Sub(wallClock()); left > 0 {
			kept := *l.renewed
			kept.ExpiresIn = int32(left / time.Second) //nolint:gosec // not more than it was
			l.used = true
			return &kept, nil
		}
		in.RefreshToken = l.renewed.RefreshToken
	}
	out, err := r.client.CreateToken(ctx, in, options...)
	if err != nil {
		return nil, err
	}
	l.spent, l.renewed, l.expires = inFile, out, wallClock().Add(time.Duration(out.ExpiresIn)*time.Second)
	l.used = true
	return out, nil
}
