package auth

import (
	"strings"
)

// Reason identifies the cause of an Error. The values are stable: logs, metrics
// and scripts may depend on them.
type Reason string

const (
	// ReasonNoCredentials means that no source provides credentials.
	ReasonNoCredentials Reason = "no_credentials"
	// ReasonCredentialsUnavailable means that the source of the credentials fails
	// or cannot be reached, and is likely to recover.
	ReasonCredentialsUnavailable Reason = "credentials_unavailable"
	// ReasonCredentialsTimeout means that the caller's time ran out before the
	// source returned credentials.
	ReasonCredentialsTimeout Reason = "credentials_timeout"
	// ReasonContainerRefused means that the container credentials endpoint of ECS or
	// EKS refuses to return credentials.
	ReasonContainerRefused Reason = "container_credentials_refused"
	// ReasonCredentialsIncomplete means that the source returned credentials
	// without an access key or without its secret.
	ReasonCredentialsIncomplete Reason = "credentials_incomplete"
	// ReasonCredentialsExpired means that the source returned expired credentials.
	ReasonCredentialsExpired Reason = "credentials_expired"
	// ReasonCredentialsRejected means that STS rejects the current credentials.
	ReasonCredentialsRejected Reason = "credentials_rejected"
	// ReasonProcessTimeout means that the caller's time ran out while the profile's
	// credential_process was running.
	ReasonProcessTimeout Reason = "process_timeout"
	// ReasonProcessFailed means that the credential_process failed, or that its
	// output cannot be used.
	ReasonProcessFailed Reason = "process_failed"
	// ReasonSSOExpired means that the user has to run `aws sso login`.
	ReasonSSOExpired Reason = "sso_expired"
	// ReasonSSORoleDenied means that the SSO user is not assigned to the account or
	// to the permission set.
	ReasonSSORoleDenied Reason = "sso_role_denied"
	// ReasonLoginExpired means that the user has to run `aws login`.
	ReasonLoginExpired Reason = "login_expired"
	// ReasonFileUnreadable means that a file with a login or a token cannot be read.
	ReasonFileUnreadable Reason = "credentials_file_unreadable"
	// ReasonRoleDenied means that STS does not let the caller assume the role.
	ReasonRoleDenied Reason = "role_denied"
	// ReasonRolePolicyRefused means that STS refuses the policies or the tags of the
	// role's session.
	ReasonRolePolicyRefused Reason = "role_policy_refused"
	// ReasonRoleRequestInvalid means that STS refuses the request to assume the role
	// for another cause.
	ReasonRoleRequestInvalid Reason = "role_request_invalid"
	// ReasonSTSRegionDisabled means that STS is not active for the account in the
	// region.
	ReasonSTSRegionDisabled Reason = "sts_region_disabled"
	// ReasonWebIdentityExpired means that the web identity token has expired.
	ReasonWebIdentityExpired Reason = "web_identity_expired"
	// ReasonWebIdentityRefused means that STS or the identity provider does not
	// accept the web identity token.
	ReasonWebIdentityRefused Reason = "web_identity_refused"
	// ReasonSourceCredentialsExpired means that the credentials that assume the
	// role have expired.
	ReasonSourceCredentialsExpired Reason = "source_credentials_expired" //nolint:gosec // not a credential
	// ReasonSourceCredentialsRefused means that STS refuses the credentials that
	// assume the role.
	ReasonSourceCredentialsRefused Reason = "source_credentials_refused" //nolint:gosec // not a credential
	// ReasonMFARequired means that the profile assumes its role with an MFA code.
	ReasonMFARequired Reason = "mfa_required"
	// ReasonInvalidRole means that a role in the configuration is not an ARN.
	ReasonInvalidRole Reason = "invalid_role"
	// ReasonRegionRequired means that the region cannot be derived from a host
	// name that AWS does not assign.
	ReasonRegionRequired Reason = "region_required"
	// ReasonGlobalRegionRequired means that the host is a global writer endpoint,
	// whose name has no region.
	ReasonGlobalRegionRequired Reason = "global_region_required"
	// ReasonSigningFailed means that the SDK could not sign the token.
	ReasonSigningFailed Reason = "signing_failed"
	// ReasonProfileMissing means that the profile is in neither configuration file.
	ReasonProfileMissing Reason = "profile_missing"
	// ReasonSourceProfileMissing means that the source_profile of a profile is in
	// neither configuration file.
	ReasonSourceProfileMissing Reason = "source_profile_missing"
	// ReasonSourceProfileLoop means that a profile is its own source_profile by way
	// of others.
	ReasonSourceProfileLoop Reason = "source_profile_loop"
	// ReasonSSOSessionMissing means that the sso_session of a profile is not in the
	// config file.
	ReasonSSOSessionMissing Reason = "sso_session_missing"
	// ReasonSettingIncomplete means that a setting requires another one, which is missing.
	ReasonSettingIncomplete Reason = "setting_incomplete"
	// ReasonSettingInvalid means that a setting has another form than it must have.
	ReasonSettingInvalid Reason = "setting_invalid"
	// ReasonSettingUnusable means that the file that a setting names cannot be used,
	// or that the value is not the one that was meant.
	ReasonSettingUnusable Reason = "setting_unusable"
	// ReasonConfigurationInvalid means that the SDK refuses the AWS configuration.
	ReasonConfigurationInvalid Reason = "configuration_invalid"
	// ReasonContainerHostUnknown means that the host name of the container
	// credentials endpoint does not resolve.
	ReasonContainerHostUnknown Reason = "container_host_unknown"
	// ReasonTokenFileUnusable means that the file with the web identity token or the
	// container's authorization token does not exist, or has no token.
	ReasonTokenFileUnusable Reason = "token_file_unusable" //nolint:gosec // not a credential
	// ReasonHTTPProxyFailed means that a request for credentials fails at the HTTP
	// proxy.
	ReasonHTTPProxyFailed Reason = "http_proxy_failed"
	// ReasonAWSCertificateUntrusted means that the certificate of an endpoint of AWS
	// is not trusted.
	ReasonAWSCertificateUntrusted Reason = "aws_certificate_untrusted"
	// ReasonEndpointUnreachable means that a configured endpoint cannot be reached.
	ReasonEndpointUnreachable Reason = "endpoint_unreachable"
	// ReasonConfigFileUnusable means that no source provides credentials, and that
	// one of AWS's configuration files cannot be used as it is.
	ReasonConfigFileUnusable Reason = "config_file_unusable"
	// ReasonProfileRequired means that no source provides credentials, and that the
	// configuration files have profiles other than the default one.
	ReasonProfileRequired Reason = "profile_required"
)

// TokenReasons returns the reasons for which there may be no token. The other reasons are
// found when the configuration is loaded.
func TokenReasons() []Reason {
	return []Reason{
		ReasonNoCredentials, ReasonCredentialsUnavailable, ReasonCredentialsTimeout, ReasonContainerRefused, ReasonCredentialsIncomplete,
		ReasonCredentialsExpired, ReasonProcessTimeout, ReasonProcessFailed, ReasonSSOExpired, ReasonSSORoleDenied,
		ReasonLoginExpired, ReasonFileUnreadable, ReasonRoleDenied,
		ReasonRolePolicyRefused, ReasonRoleRequestInvalid, ReasonSTSRegionDisabled,
		ReasonWebIdentityExpired, ReasonWebIdentityRefused,
		ReasonSourceCredentialsExpired, ReasonSourceCredentialsRefused, ReasonSigningFailed,
		ReasonConfigFileUnusable, ReasonProfileRequired, ReasonContainerHostUnknown, ReasonTokenFileUnusable, ReasonEndpointUnreachable,
		ReasonHTTPProxyFailed, ReasonAWSCertificateUntrusted,
	}
}

// Temporary reports whether the cause always disappears without intervention.
func (r Reason) Temporary() bool {
	switch r {
	case ReasonCredentialsUnavailable, ReasonCredentialsTimeout, ReasonProcessTimeout,
		ReasonEndpointUnreachable, ReasonHTTPProxyFailed, ReasonContainerHostUnknown:
		return true
	}
	return false
}

// IsReason reports whether text is the value of a Reason.
func IsReason(text string) bool {
	_, ok := texts[Reason(text)]
	return ok
}

// newError returns the error of a reason. In values, each name in braces is
// followed by the text that replaces it. The cause may be nil.
func newError(reason Reason, cause error, values ...string) *Error {
	text, fill := texts[reason], strings.NewReplacer(values...)
	return &Error{Code: reason, Message: fill.Replace(text.message), Hint: fill.Replace(text.hint), Err: cause}
}
