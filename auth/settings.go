package auth

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/text"
)

// setting is a setting with a form that Load checks. The SDK ignores some values of
// another form, and reports others without the name of the setting.
type setting struct {
	variable string // of the environment
	key      string // of a profile; may be empty
	form     string // for messages
	valid    func(value string) bool
}

// settings lists the settings that are checked. Endpoint URLs are checked by
// endpoints.check.
var settings = []setting{
	{"AWS_ACCESS_KEY_ID", accessKeyKey, "an access key ID, such as AKIAIOSFODNN7EXAMPLE", isAccessKeyID},
	{"AWS_SESSION_TOKEN", "aws_session_token", "a session token", isSessionToken},
	{"AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file", "the name of a file, but the token itself", isNoToken},
	{"AWS_REGION", "region", "a region such as eu-west-1", isSTSRegion},
	{"AWS_DEFAULT_REGION", "region", "a region such as eu-west-1", isSTSRegion},
	{"AWS_ROLE_ARN", "role_arn", "the ARN of a role, such as arn:aws:iam::111122223333:role/name", isRoleARN},
	{"AWS_ROLE_SESSION_NAME", "role_session_name", "2 to 64 letters, digits and characters of _=,.@-", isSessionName},
	{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "", "a URL such as http://169.254.170.23/v1/credentials", isURL},
	{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "", `a path that begins with "/"`, func(value string) bool { return strings.HasPrefix(value, "/") }},
	{"AWS_CONTAINER_AUTHORIZATION_TOKEN", "", "a token in one line", isOneLine},
	{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint", "a URL such as http://169.254.169.254", isURL},
	{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode", `"IPv4" or "IPv6"`, oneOf("ipv4", "ipv6")},
	{"AWS_EC2_METADATA_DISABLED", "", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_EC2_METADATA_V1_DISABLED", "ec2_metadata_v1_disabled", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_DISABLE_CLOCK_SKEW_CORRECTION", "disable_clock_skew_correction", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_DISABLE_REQUEST_COMPRESSION", "disable_request_compression", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_S3_USE_ARN_REGION", "s3_use_arn_region", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS", "s3_disable_multiregion_access_points", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "s3_disable_express_session_auth", `"true" or "false"`, oneOf("true", "false")},
	{"AWS_ENABLE_ENDPOINT_DISCOVERY", "endpoint_discovery_enabled", `"true", "false" or "auto"`, oneOf("true", "false", "auto")},
	{"AWS_ACCOUNT_ID_ENDPOINT_MODE", "account_id_endpoint_mode", `"preferred", "required" or "disabled"`, oneOf("preferred", "required", "disabled")},
	{"AWS_REQUEST_CHECKSUM_CALCULATION", "request_checksum_calculation", `"when_supported" or "when_required"`, oneOf("when_supported", "when_required")},
	{"AWS_RESPONSE_CHECKSUM_VALIDATION", "response_checksum_validation", `"when_supported" or "when_required"`, oneOf("when_supported", "when_required")},
	{"AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", "request_min_compression_size_bytes", "a number", isNumber},
	{"AWS_RESTRICT_FILE_PERMISSIONS", "", `"user_read_write" or "unrestricted"`, oneOf("user_read_write", "unrestricted")},
	{"AWS_DEFAULTS_MODE", "defaults_mode", `"standard", "auto", "in-region", "cross-region", "mobile" or "legacy"`,
		oneOf("standard", "auto", "in-region", "cross-region", "mobile", "legacy")},
	{"AWS_RETRY_MODE", "retry_mode", `"standard" or "adaptive"`, oneOf("standard", "adaptive")},
	{"AWS_MAX_ATTEMPTS", "max_attempts", "a number", isNumber},
	{"", "duration_seconds", "a number from 900 to 43200", isDuration},
	{"", "credential_source", `"Environment", "Ec2InstanceMetadata" or "EcsContainer"`, oneOf("environment", "ec2instancemetadata", "ecscontainer")},
}

// isSessionName reports whether a value may name a role's session.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func isSessionName(value string) bool { return len(value) >= 2 && isWord(value, 64, "_+=,.@-") }

// isHarmless reports whether a value may be repeated in a message. A secret has other
// characters: the value is a word without digits, a number, a region or an address.
func isHarmless(value string) bool {
	return value != "" && (isPlain(value) || text.Number.Matches(value) || text.Region.Matches(value))
}

var isPlain = text.Matching(`^([A-Za-z]{1,16}|[0-9.]{7,15}(:[0-9]{1,5})?)$`)

// isAccessKeyID reports whether a value may be the ID of a key, and not a whole secret,
// which would become a part of each token.
func isAccessKeyID(value string) bool { return isWord(value, 128, "_.-") }

// isSessionToken reports whether a value may be a session token, whose form AWS does not
// document. It is not JSON.
func isSessionToken(value string) bool { return isOneLine(value) && !strings.ContainsAny(value, `{}"`) }

// isNoToken reports whether a value is not a JWT, whose header is an object of JSON.
func isNoToken(value string) bool {
	return !strings.HasPrefix(value, "eyJ") || strings.Count(value, ".") != 2
}

// isWord reports whether a value consists of letters, digits and more characters of
// ASCII, and is not longer than most.
func isWord(value string, most int, more string) bool {
	return value != "" && len(value) <= most && !strings.ContainsFunc(value, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(more, r)
	})
}

// isSTSRegion reports whether STS may have an endpoint in a region. The name
// aws-global stands for the endpoint without a region.
func isSTSRegion(name string) bool { return IsRegion(name) || name == "aws-global" }

func isURL(value string) bool {
	parsed, err := url.Parse(value)
	return err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Hostname() != ""
}

func isOneLine(value string) bool { return !strings.ContainsAny(value, "\r\n") }

func isNumber(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n >= 0
}

func isDuration(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n >= 900 && n <= 43200
}

func oneOf(words ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(words, strings.ToLower(value)) }
}

// checkSettings returns an error for the first setting that cannot work: it has
// another form than AWS documents, or another setting is missing.
func (i *Identity) checkSettings(files *sharedFiles) error {
	if err := checkSpelling(); err != nil {
		return err
	}
	profile := files.profile(cmp.Or(i.profile(), defaultProfile))
	for _, s := range settings {
		if value := os.Getenv(s.variable); s.variable != "" && value != "" && !s.valid(value) {
			return settingError(s.variable, value, "", s.form)
		}
		if value := profile[s.key]; value != "" && !s.valid(value) {
			return settingError(s.key, value, " of profile "+strconv.Quote(cmp.Or(i.profile(), defaultProfile)), s.form)
		}
	}
	for _, names := range [][]string{{"HTTPS_PROXY", "https_proxy"}, {"HTTP_PROXY", "http_proxy"}} {
		if name, value := firstSet(names...); value != "" && !isProxy(value) {
			return settingError(name, "", "", "the URL of a proxy, such as http://proxy.example.com:3128")
		}
	}
	return i.checkPairs(profile)
}

// checkSpelling returns an error for a variable with quotes or white space around
// its value. Files of variables and base64 of a line lead to them, and AWS's answer
// would be that the signature is wrong.
func checkSpelling() error {
	names := []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"}
	for _, s := range settings {
		names = append(names, s.variable)
	}
	for _, name := range names {
		switch value := os.Getenv(name); {
		case strings.TrimSpace(value) != value:
			return newError(ReasonSettingUnusable, nil, "{setting}", name, "{problem}", "the value begins or ends with white space or a line break; remove it")
		case unquote(value) != value:
			return newError(ReasonSettingUnusable, nil, "{setting}", name, "{problem}", "the value is in quotes; remove them")
		}
	}
	return nil
}

// check returns an error if a configured endpoint URL is no URL.
func (e *endpoints) check() error {
	for _, service := range awsServices {
		if configured := e.of(service); configured.url != "" && !isURL(configured.url) {
			return settingError(configured.setting, "", "", "a URL such as http://localhost:4566")
		}
	}
	return nil
}

// settingError returns the error of a setting. It repeats the value if it cannot be
// a secret.
func settingError(name, value, of, form string) *Error {
	if isHarmless(value) {
		value = ` "` + value + `"`
	} else {
		value = ""
	}
	return newError(ReasonSettingInvalid, nil, "{setting}", name, "{value}", value, "{of}", of, "{form}", form)
}

// checkPairs returns an error for a setting without the one that it needs.
func (i *Identity) checkPairs(profile map[string]string) error {
	incomplete := func(given, missing string) error {
		return newError(ReasonSettingIncomplete, nil, "{given}", given, "{missing}", missing)
	}
	idName, id := firstSet("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")
	secretName, secret := firstSet("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")
	tokenFile, role := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), os.Getenv("AWS_ROLE_ARN")
	inEnvironment := i.Profile == "" && (id != "" || secret != "" || tokenFile != "")
	switch {
	case i.Profile != "":
	case id != "" && secret == "":
		return incomplete(idName+" is set", "AWS_SECRET_ACCESS_KEY")
	case id == "" && secret != "":
		return incomplete(secretName+" is set", "AWS_ACCESS_KEY_ID")
	case id != "":
	case tokenFile != "" && role == "":
		return incomplete("AWS_WEB_IDENTITY_TOKEN_FILE is set", "AWS_ROLE_ARN")
	case role != "" && tokenFile == "" && i.profile() == "" && !isSource(profile) && !hasContainer():
		return incomplete("AWS_ROLE_ARN is set", "AWS_WEB_IDENTITY_TOKEN_FILE (--assume-role assumes a role with other credentials)")
	case role != "" && tokenFile == "":
		i.log().Warn("AWS_ROLE_ARN is not used without AWS_WEB_IDENTITY_TOKEN_FILE; --assume-role assumes a role", zap.String("role", role))
	}
	of := "profile " + strconv.Quote(cmp.Or(i.profile(), defaultProfile)) + " has "
	switch {
	case inEnvironment:
	case profile["web_identity_token_file"] != "" && profile["role_arn"] == "":
		return incomplete(of+"web_identity_token_file", "role_arn")
	case isBareSSO(profile) && profile["sso_account_id"] == "":
		return incomplete(of+ssoSessionKey, "sso_account_id and sso_role_name")
	case isBareSSO(profile) && profile["sso_role_name"] == "":
		return incomplete(of+"sso_account_id", "sso_role_name")
	case profile[sourceProfileKey] != "" && profile["role_arn"] == "":
		return incomplete(of+sourceProfileKey, "role_arn")
	case profile["role_arn"] != "" && profile[sourceProfileKey] == "" && !isSource(profile) && !hasContainer():
		return incomplete(of+"role_arn", "source_profile or credential_source")
	case strings.EqualFold(profile["credential_source"], "Environment") && id == "":
		return incomplete(of+"credential_source = Environment", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
	case strings.EqualFold(profile["credential_source"], "EcsContainer") && !hasContainer():
		return incomplete(of+"credential_source = EcsContainer", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, which ECS sets in a task with a task role")
	}
	return nil
}

// isSource reports whether a profile has a source of credentials other than a
// source_profile.
func isSource(profile map[string]string) bool {
	return slices.ContainsFunc([]string{accessKeyKey, "credential_source", "web_identity_token_file", ssoSessionKey,
		"sso_start_url", "login_session", processKey}, func(key string) bool { return has(profile, key) })
}

// isBareSSO reports whether an sso_session is the only source of a profile.
func isBareSSO(profile map[string]string) bool {
	return profile[ssoSessionKey] != "" && !slices.ContainsFunc([]string{accessKeyKey, sourceProfileKey, "credential_source", "web_identity_token_file",
		"login_session", processKey}, func(key string) bool { return has(profile, key) })
}

func hasContainer() bool {
	return os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != ""
}

// firstSet returns the first variable that is set, and its value.
func firstSet(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// isProxy reports whether net/http can use the address of a proxy. The scheme may be
// missing.
func isProxy(value string) bool {
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	parsed, err := url.Parse(value)
	return err == nil && parsed.Hostname() != "" && slices.Contains([]string{"http", "https", "socks5", "socks5h"}, parsed.Scheme)
}

// caBundle returns the content of the CA bundle that is configured, or nil. The SDK
// does not name the setting if it cannot read the file.
func (i *Identity) caBundle(files *sharedFiles) ([]byte, error) {
	name, path := "AWS_CA_BUNDLE", os.Getenv("AWS_CA_BUNDLE")
	if path == "" {
		name, path = "ca_bundle", files.profile(cmp.Or(i.profile(), defaultProfile))["ca_bundle"]
	}
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(expandHome(path)) //nolint:gosec // named by the user's environment
	if err != nil {
		return nil, newError(ReasonSettingUnusable, err, "{setting}", name, "{problem}", "could not read "+fileName(name, path)+": "+text.WithoutPath(err).Error())
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if !x509.NewCertPool().AppendCertsFromPEM(content) {
		return nil, newError(ReasonSettingUnusable, nil, "{setting}", name, "{problem}", fileName(name, path)+" has no certificate in PEM")
	}
	return content, nil
}
