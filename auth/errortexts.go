package auth

// texts holds the message and the hint of each reason. A name in braces stands
// for a value that newError fills in.
var texts = map[Reason]struct{ message, hint string }{
	ReasonNoCredentials: {
		"no AWS credentials found ({cause})",
		"{advice}",
	},
	ReasonCredentialsUnavailable: {
		"no AWS credentials: {cause}",
		"{advice}",
	},
	ReasonContainerRefused: {
		"no AWS credentials: {cause}",
		"In ECS, check that the task has a role (taskRoleArn) whose trust policy allows ecs-tasks.amazonaws.com. In EKS, check the pod identity association, and that the trust policy of its role allows pods.eks.amazonaws.com.",
	},
	ReasonCredentialsTimeout: {
		"the source of the AWS credentials has not answered in time{cause}",
		"Check that this host can reach it. If there is an HTTP proxy, NO_PROXY needs 169.254.170.2, 169.254.170.23 and 169.254.169.254.",
	},
	ReasonCredentialsIncomplete: {
		"the source of the AWS credentials returned no access key with a secret",
		"Check what it returns: {source}.",
	},
	ReasonCredentialsExpired: {
		"the AWS credentials expired at {time}",
		"Renew them where they come from. If they are new, check this machine's clock.",
	},
	ReasonCredentialsRejected: {
		"AWS rejects the credentials from {source}: {code}",
		"{remedy}",
	},
	ReasonProcessTimeout: {
		"credential_process of profile {profile} has not answered for {time}",
		"Look for a browser window or a prompt of that process that waits for an answer.",
	},
	ReasonProcessFailed: {
		"credential_process of profile {profile} failed: {cause}",
		"Run the command of credential_process in a shell as the user that runs iamproxy. Its messages on standard error are in iamproxy's output.",
	},
	ReasonSSOExpired: {
		"the SSO login of profile {profile} {state}",
		"Run: {command}",
	},
	ReasonSSORoleDenied: {
		"the SSO user may not use the role of profile {profile}: {cause}",
		"Check sso_account_id and sso_role_name of the profile. If they are right, ask the administrator of IAM Identity Center for an assignment to that account.",
	},
	ReasonLoginExpired: {
		"the login session of profile {profile} has ended or does not exist",
		"Run: {command}",
	},
	ReasonFileUnreadable: {
		"could not read {file}: {cause}",
		"Make the file readable for the user that runs iamproxy.",
	},
	ReasonRoleDenied: {
		"could not assume the role: {cause}",
		"{advice}",
	},
	ReasonRolePolicyRefused: {
		"could not assume the role: {cause}",
		"Shorten or correct the policies and tags that are passed on to the session of the role.",
	},
	ReasonRoleRequestInvalid: {
		"could not assume the role: {cause}",
		"Check role_arn, role_session_name and duration_seconds of the profile, or --assume-role. If a role assumes the role, duration_seconds must be 3600 or less.",
	},
	ReasonSTSRegionDisabled: {
		"could not assume the role: {cause}",
		"Activate STS for that region in the IAM console (Account settings, Security Token Service), or set AWS_REGION to a region in which it is active.",
	},
	ReasonWebIdentityExpired: {
		"could not assume the role: {cause}",
		"Check that AWS_WEB_IDENTITY_TOKEN_FILE is the file that the platform renews, and not a copy, and that the clock of this machine is right. A new token is read from the file for the next login.",
	},
	ReasonWebIdentityRefused: {
		"could not assume the role: {cause}",
		"Check that the account of the role has an IAM OIDC provider for the issuer of the token. In EKS: eksctl utils associate-iam-oidc-provider --cluster NAME --approve. Then compare the issuer, audience (sts.amazonaws.com) and subject of the token in AWS_WEB_IDENTITY_TOKEN_FILE with the OIDC provider and the role's trust policy.",
	},
	ReasonSourceCredentialsExpired: {
		"the credentials that assume the role, from {source}, have expired ({code})",
		"{remedy}",
	},
	ReasonSourceCredentialsRefused: {
		"the credentials that assume the role, from {source}, are not valid ({code})",
		"{remedy}",
	},
	ReasonMFARequired: {
		"the profile requires MFA (mfa_serial), which iamproxy cannot prompt for",
		"Use SSO, or a profile whose credential_process runs aws configure export-credentials.",
	},
	ReasonInvalidRole: {
		"{role} is not the ARN of a role, such as arn:aws:iam::111122223333:role/name",
		"",
	},
	ReasonRegionRequired: {
		"\"{host}\" is not a name that AWS assigned to a database",
		"Pass the name from the RDS console as ENDPOINT, and this name with --via. If tokens should be for this name, set --region (or region= in ENDPOINT).",
	},
	ReasonGlobalRegionRequired: {
		"the global writer endpoint \"{host}\" has no region in its name",
		"Set --region (or region= in ENDPOINT) to the region of the primary cluster.",
	},
	ReasonSigningFailed: {
		"could not sign a token: {cause}",
		"",
	},
	ReasonProfileMissing: {
		"there is no AWS profile {profile} in {file}{detail}",
		"{remedy}",
	},
	ReasonSourceProfileMissing: {
		"profile {profile} has source_profile {source}, which is not in {file}{detail}",
		"{remedy}",
	},
	ReasonSourceProfileLoop: {
		"source_profile leads back to the same profile: {profiles}",
		"Give one of these profiles credentials instead of a source_profile.",
	},
	ReasonSSOSessionMissing: {
		"profile {profile} has sso_session {session}, and there is no [sso-session {session}] in {file}{detail}",
		"{remedy}",
	},
	ReasonSettingIncomplete: {
		"{given} without {missing}",
		"",
	},
	ReasonSettingInvalid: {
		"{setting}{value}{of} is not {form}",
		"",
	},
	ReasonSettingUnusable: {
		"{setting}: {problem}",
		"",
	},
	ReasonConfigurationInvalid: {
		"{cause}",
		"",
	},
	ReasonContainerHostUnknown: {
		"could not resolve {host}, the host of AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"Check the name. The next login resolves it again.",
	},
	ReasonTokenFileUnusable: {
		"no AWS credentials: {setting}: {problem}",
		"{advice} The next login reads it again.",
	},
	ReasonHTTPProxyFailed: {
		"could not reach {target} through the HTTP proxy {host} ({setting}): {cause}",
		"Check the address of the proxy, and that it lets this host connect to {target}. NO_PROXY lists the hosts that are reached without it.",
	},
	ReasonAWSCertificateUntrusted: {
		"the certificate of {target} is not trusted: {cause}",
		"Find out which system answers for {target}. If it is a proxy of your organization that inspects TLS, set AWS_CA_BUNDLE to a file with its root certificate.",
	},
	ReasonEndpointUnreachable: {
		"could not reach {host} ({setting}): {cause}",
		"{advice}",
	},
	ReasonConfigFileUnusable: {
		"no AWS credentials: {problems}",
		"{remedies}",
	},
	ReasonProfileRequired: {
		"no AWS credentials: no profile is chosen, and there is no profile \"default\" in {file}",
		"Choose one of {profiles}, for example with --profile {profile}.",
	},
}
