package auth

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/signin"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// replaceSource replaces the SDK's source of credentials by package auth's if it is a
// credential_process, an SSO session or a session of `aws login`. It returns the process, or nil.
func (i *Identity) replaceSource(cfg *aws.Config, files *sharedFiles) *process {
	chain, ok := cfg.Credentials.(aws.CredentialProviderSource)
	if !ok {
		return nil
	}
	sources := chain.ProviderSources()
	isOwn := func(source aws.CredentialSource) bool {
		return source == aws.CredentialSourceProcess || source == aws.CredentialSourceProfileSSO || source == aws.CredentialSourceLogin
	}
	if !slices.ContainsFunc(sources, isOwn) {
		return nil
	}
	for _, source := range cfg.ConfigSources {
		if shared, ok := source.(config.SharedConfig); ok {
			provider, process := i.profileProvider(*cfg, files, shared)
			if provider != nil {
				cfg.Credentials = aws.NewCredentialsCache(provider, i.cacheOptions)
			}
			return process
		}
	}
	return nil
}

// profileProvider returns the provider of a profile whose credentials come from a
// process or a login, and the process. It assumes the roles of the profile
// and of those that have it as their source, as the SDK does.
func (i *Identity) profileProvider(cfg aws.Config, files *sharedFiles, shared config.SharedConfig) (provider aws.CredentialsProvider, running *process) {
	switch {
	case shared.Source != nil:
		provider, running = i.profileProvider(cfg, files, *shared.Source)
	case shared.SSOSession != nil:
		provider = newSSOProvider(cfg, shared, i.log())
	case shared.LoginSession != "":
		provider = newLoginProvider(signin.NewFromConfig(cfg), cfg, shared, i.log())
	case shared.CredentialProcess != "":
		running = processOf(processCommand(files.profile(shared.Profile)[processKey], shared.CredentialProcess))
		provider = running
	}
	if provider == nil || shared.RoleARN == "" {
		return provider, running
	}
	cfg.Credentials = aws.NewCredentialsCache(provider, i.cacheOptions)
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), shared.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = shared.RoleSessionName
		if shared.RoleDurationSeconds != nil && *shared.RoleDurationSeconds > stscreds.DefaultDuration {
			o.Duration = *shared.RoleDurationSeconds
		}
		if shared.ExternalID != "" {
			o.ExternalID = &shared.ExternalID
		}
	}, i.roleDefaults), running
}
