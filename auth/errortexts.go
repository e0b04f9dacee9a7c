package auth

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
	ReasonProfileMissing: {
		"there is no AWS profile {profile} in {file}{detail}",
		"The command aws configure list-profiles lists the profiles.",
	},
	ReasonSourceProfileMissing: {
		"profile {profile} has source_profile {source}, which is not in {file}{detail}",
		"The command aws configure list-profiles lists the profiles.",
	},
	ReasonSourceProfileLoop: {
		"source_profile leads back to the same profile: {profiles}",
		"Give one of these profiles credentials instead of a source_profile.",
	},
	ReasonSSOSessionMissing: {
		"profile {profile} has sso_session {session}, and there is no [sso-session {session}] in {file}{detail}",
		"The command aws configure sso writes both.",
	},
	ReasonSettingIncomplete: {
		"{given} without {missing}",
		"",
	},
	ReasonConfigurationInvalid: {
		"{cause}",
		"",
	},
	ReasonConfigFileUnusable: {
		"no AWS credentials: {problems}",
		"Correct this first. The file must be readable for the user that runs iamproxy, and in UTF-8.",
	},
	ReasonProfileRequired: {
		"no AWS credentials: no profile is chosen, and there is no profile \"default\" in {file}",
		"Choose one of {profiles}, for example with --profile {profile}.",
	},
}
