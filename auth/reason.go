package auth

import "strings"

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
	// ReasonCredentialsIncomplete means that the source returned credentials
	// without an access key or without its secret.
	ReasonCredentialsIncomplete Reason = "credentials_incomplete"
	// ReasonCredentialsExpired means that the source returned expired credentials.
	ReasonCredentialsExpired Reason = "credentials_expired"
	// ReasonSSOExpired means that the user has to run `aws sso login`.
	ReasonSSOExpired Reason = "sso_expired"
	// ReasonLoginExpired means that the user has to run `aws login`.
	ReasonLoginExpired Reason = "login_expired"
	// ReasonRoleDenied means that STS does not let the caller assume the role.
	ReasonRoleDenied Reason = "role_denied"
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
)

// IsReason reports whether text is the value of a Reason.
func IsReason(text string) bool {
	_, ok := texts[Reason(text)]
	return ok
}

// texts holds the message and the hint of each reason. A name in braces stands
// for a value that newError fills in.
var texts = map[Reason]struct{ message, hint string }{
	ReasonNoCredentials: {
		"no AWS credentials: {cause}",
		"give iamproxy a task role, a pod identity, a profile (--profile) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sts get-caller-identity` shows what is found",
	},
	ReasonCredentialsUnavailable: {
		"no AWS credentials: {cause}",
		"whoever gives out the AWS credentials does not work or cannot be reached; check that this host gets there, and that NO_PROXY has 169.254.170.2, 169.254.170.23 and 169.254.169.254 if there is an HTTP proxy",
	},
	ReasonCredentialsTimeout: {
		"waiting for AWS credentials: {cause}",
		"whoever gives out the AWS credentials does not answer; check that this host reaches them",
	},
	ReasonCredentialsIncomplete: {
		"the source of the AWS credentials gave no access key with a secret",
		"check what it gives: {source}",
	},
	ReasonCredentialsExpired: {
		"the AWS credentials expired at {time}",
		"renew them where they come from; if they are new, check this machine's clock",
	},
	ReasonSSOExpired: {
		"no AWS credentials: {cause}",
		"run `{command}`, then connect again; iamproxy need not be restarted",
	},
	ReasonLoginExpired: {
		"no AWS credentials: {cause}",
		"run `{command}`, then connect again; iamproxy need not be restarted",
	},
	ReasonRoleDenied: {
		"no AWS credentials: {cause}",
		"the role's trust policy has to allow whoever assumes it (sts:AssumeRole, or sts:AssumeRoleWithWebIdentity), with the external id if it asks for one; `aws sts get-caller-identity` shows who that is",
	},
	ReasonSourceCredentialsExpired: {
		"no AWS credentials: those that are to assume the role, from {source}, are expired ({code})",
		"renew them where they come from",
	},
	ReasonSourceCredentialsRefused: {
		"no AWS credentials: those that are to assume the role, from {source}, are not valid ({code})",
		"renew them where they come from",
	},
	ReasonMFARequired: {
		"the profile wants a code (mfa_serial), and nobody can be asked for it here; use a profile that gets its keys from `aws configure export-credentials` by credential_process, or SSO",
		"",
	},
	ReasonInvalidRole: {
		"{role} is not a role's ARN, as arn:aws:iam::111122223333:role/name",
		"",
	},
	ReasonRegionRequired: {
		"{host} is not a name that AWS gives a database; use that name with your own in ?via=, or add ?region= to sign for this one as it stands",
		"",
	},
	ReasonGlobalRegionRequired: {
		"the global writer endpoint {host} has no region in its name; add ?region= with the region of the primary cluster",
		"",
	},
	ReasonSigningFailed: {
		"cannot sign a token: {cause}",
		"",
	},
}

// newError returns the error of a reason. In values, each name in braces is
// followed by the text that replaces it. The cause may be nil.
func newError(reason Reason, cause error, values ...string) *Error {
	text, fill := texts[reason], strings.NewReplacer(values...)
	return &Error{Code: reason, Message: fill.Replace(text.message), Hint: fill.Replace(text.hint), Err: cause}
}
