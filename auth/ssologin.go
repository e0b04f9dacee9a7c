package auth

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/service/sso"
	"github.com/aws/aws-sdk-go-v2/service/ssooidc"
	"go.uber.org/zap"
)

var ssoLogins keptLogins[*ssooidc.CreateTokenOutput]

// ssoProvider gets credentials from the portal of SSO with the login of an
// sso-session.
type ssoProvider struct {
	portal        *sso.Client
	login         *keptLogin[*ssooidc.CreateTokenOutput]
	tokens        *ssocreds.SSOTokenProvider
	account, role string
	log           *zap.Logger
}

// newSSOProvider returns the provider of a profile with an sso-session, or nil if the
// path of the login's file is not known.
func newSSOProvider(cfg aws.Config, shared config.SharedConfig, log *zap.Logger) aws.CredentialsProvider {
	path, err := ssocreds.StandardCachedTokenFilepath(shared.SSOSession.Name)
	if err != nil {
		return nil
	}
	cfg.Region = shared.SSOSession.SSORegion
	p := &ssoProvider{portal: sso.NewFromConfig(cfg), login: ssoLogins.of(path), account: shared.SSOAccountID, role: shared.SSORoleName, log: log}
	p.tokens = ssocreds.NewSSOTokenProvider(ssoRenewer{p.login, ssooidc.NewFromConfig(cfg)}, path)
	return p
}

// Retrieve returns the credentials of the role.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (p *ssoProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	token, err := p.accessToken(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	answer, err := p.portal.GetRoleCredentials(ctx, &sso.GetRoleCredentialsInput{AccessToken: &token, AccountId: &p.account, RoleName: &p.role})
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

// accessToken returns the access token of the login, which is renewed if it has expired.
func (p *ssoProvider) accessToken(ctx context.Context) (string, error) {
	p.login.mu.Lock()
	defer p.login.mu.Unlock()
	p.login.used = false
	token, err := p.tokens.RetrieveBearerToken(ctx)
	if p.login.survives(err, p.log) {
		return aws.ToString(p.login.renewed.AccessToken), nil
	}
	return token.Value, err
}

// ssoRenewer is the client with which the SDK renews a login.
type ssoRenewer struct {
	login  *keptLogin[*ssooidc.CreateTokenOutput]
	client ssocreds.CreateTokenAPIClient
}

// CreateToken exchanges a refresh token for an access token.
func (r ssoRenewer) CreateToken(ctx context.Context, in *ssooidc.CreateTokenInput, options ...func(*ssooidc.Options)) (*ssooidc.CreateTokenOutput, error) {
	out, left, err := r.login.exchange(aws.ToString(in.RefreshToken), func(refreshToken string) (*ssooidc.CreateTokenOutput, string, time.Duration, error) {
		in.RefreshToken = &refreshToken
		out, err := r.client.CreateToken(ctx, in, options...)
		if err != nil {
			return nil, "", 0, err
		}
		return out, aws.ToString(out.RefreshToken), time.Duration(out.ExpiresIn) * time.Second, nil
	})
	if err != nil {
		return nil, err
	}
	answer := *out
	answer.ExpiresIn = int32(left / time.Second)
	return &answer, nil
}
