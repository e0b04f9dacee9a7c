package auth

import (
	"cmp"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"

	"github.com/iamproxy/iamproxy/internal/text"
)

// SourceKind is a kind of source of credentials. Its value is shown to users. For
// a provider that is not listed here, it is the name that the SDK gives.
type SourceKind string

const (
	SourceEnvironment       SourceKind = "the environment"
	SourceProfileKeys       SourceKind = "the profile's keys"
	SourceProfile           SourceKind = "the profile's own source" // the SDK does not report which
	SourceAssumedRole       SourceKind = "an assumed role"
	SourceWebIdentity       SourceKind = "web identity"
	SourceSSO               SourceKind = "SSO"
	SourceLogin             SourceKind = "aws login"
	SourceProcess           SourceKind = "credential_process"
	SourceContainerEndpoint SourceKind = "the container credentials endpoint"
	SourceInstanceRole      SourceKind = "the instance's role"
)

// sourceKinds maps the names of the SDK's providers to kinds.
var sourceKinds = map[string]SourceKind{
	config.CredentialsSourceName:     SourceEnvironment,
	"SharedConfigCredentials":        SourceProfileKeys, // config/shared_config.go; it has no constant
	stscreds.ProviderName:            SourceAssumedRole,
	stscreds.WebIdentityProviderName: SourceWebIdentity,
	ssocreds.ProviderName:            SourceSSO,
	logincreds.ProviderName:          SourceLogin,
	processcreds.ProviderName:        SourceProcess,
	endpointcreds.ProviderName:       SourceContainerEndpoint,
	ec2rolecreds.ProviderName:        SourceInstanceRole,
}

// Source identifies where credentials come from.
type Source struct {
	Kind    SourceKind // empty before the first fetch
	Profile string     // as configured; may be empty
}

// String describes the source to users.
func (s Source) String() string {
	if s.Profile != "" {
		return string(s.Kind) + ` (profile "` + s.Profile + `")`
	}
	return string(s.Kind)
}

// Source returns where the current credentials come from.
func (i *Identity) Source() Source {
	cached, _ := i.state()
	return i.sourceOf(cached.creds)
}

func (i *Identity) sourceOf(creds aws.Credentials) Source {
	provider, _, _ := strings.Cut(creds.Source, ": ") // a file name may follow
	kind, ok := sourceKinds[provider]
	if !ok {
		kind = SourceKind(creds.Source)
	}
	return Source{kind, i.profile()}
}

// profile returns the configured profile, or "".
func (i *Identity) profile() string {
	if i.Profile != "" {
		return i.Profile
	}
	return cmp.Or(os.Getenv("AWS_PROFILE"), os.Getenv("AWS_DEFAULT_PROFILE"))
}

// profileName returns the profile in use, quoted.
func (i *Identity) profileName() string { return `"` + cmp.Or(i.profile(), defaultProfile) + `"` }

// remedy returns a sentence that says how to replace rejected credentials.
func (s Source) remedy() string {
	withProfile := func(words ...string) string {
		if s.Profile != "" {
			words = append(words, "--profile", s.Profile)
		}
		return text.ShellCommand(words...)
	}
	switch s.Kind {
	case SourceEnvironment:
		return "Get new ones (aws sso login, or export new keys and restart iamproxy)."
	case SourceProfileKeys:
		return "Write new keys to the profile, for example with: " + withProfile("aws", "configure")
	case SourceSSO:
		return "Run: " + withProfile("aws", "sso", "login")
	case SourceLogin:
		return "Run: " + withProfile("aws", "login")
	case SourceProcess:
		return "Check which credentials the credential_process prints."
	case SourceContainerEndpoint, SourceInstanceRole, SourceAssumedRole, SourceWebIdentity:
		return "Check that the role still exists and that its sessions are not revoked."
	default:
		return "Replace them where they come from."
	}
}
