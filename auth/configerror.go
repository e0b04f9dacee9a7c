package auth

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/iamproxy/iamproxy/internal/text"
)

// loadError returns the error of Load for an error of the SDK, which does not name
// the file and the setting.
func (i *Identity) loadError(files *sharedFiles, err error) error {
	if errors.As(err, new(config.AssumeRoleTokenProviderNotSetError)) {
		return newError(ReasonMFARequired, err)
	}
	if found := files.profileError(i.profile(), err); found != nil {
		return found
	}
	if found := containerError(err); found != nil {
		return found
	}
	cause := text.OneLine(redact(err))
	if profile := i.profileName(); files.profile(i.profile()) != nil && !strings.Contains(cause, profile) {
		cause = "profile " + profile + ": " + cause
	}
	return newError(ReasonConfigurationInvalid, err, "{cause}", cause)
}

// lackProfile reports whether the files are known to lack a profile that was set.
func (f *sharedFiles) lackProfile(name string) bool {
	return name != "" && !f.config.unread && !f.credentials.unread && f.profile(name) == nil
}

// profileError returns the error of a profile that cannot be used, or nil.
func (f *sharedFiles) profileError(name string, err error) *Error {
	if name == "" {
		name = defaultProfile
	}
	chain := []string{name}
	// The SDK may not find what is in quotes, where it could not get a copy in memory.
	notFound := errors.As(err, new(config.SharedConfigProfileNotExistError))
	noSession := strings.Contains(err.Error(), "failed to find SSO session section") // it has no type
	_, remedies := f.problems()                                                      // the likely cause, if there are any
	profileRemedy := cmp.Or(remedies, "The command aws configure list-profiles lists the profiles.")
	for {
		settings, quoted := f.profile(name), text.Name.Quote(name)
		next := settings[sourceProfileKey]
		switch {
		case settings == nil && len(chain) == 1 && !notFound:
			return nil
		case notFound && len(chain) == 1 && (settings == nil || next == ""):
			return newError(ReasonProfileMissing, err, "{profile}", quoted, "{file}", f.where(), "{detail}", f.missing("profile", name), "{remedy}", profileRemedy)
		case settings == nil:
			return newError(ReasonSourceProfileMissing, err, "{profile}", text.Name.Quote(chain[len(chain)-2]), "{source}", quoted,
				"{file}", f.where(), "{detail}", f.missing("profile", name), "{remedy}", profileRemedy)
		case has(settings, accessKeyKey) != has(settings, secretKeyKey):
			given, missing := accessKeyKey, secretKeyKey
			if has(settings, secretKeyKey) {
				given, missing = secretKeyKey, accessKeyKey
			}
			return newError(ReasonSettingIncomplete, err, "{given}", "profile "+quoted+" has "+given, "{missing}", missing)
		case settings[ssoSessionKey] != "" && (noSession || !slices.Contains(f.names("sso-session"), settings[ssoSessionKey])):
			session := settings[ssoSessionKey]
			if !text.Name.Matches(session) { // it may be a secret
				session = text.NotShown(session)
			}
			return newError(ReasonSSOSessionMissing, err, "{profile}", quoted, "{session}", session,
				"{file}", f.config.name, "{detail}", f.missing("sso-session", settings[ssoSessionKey]),
				"{remedy}", cmp.Or(remedies, "The command aws configure sso writes both."))
		case (next == "" && len(chain) > 1 || next == name) && errors.As(err, new(config.SharedConfigAssumeRoleError)):
			return newError(ReasonSettingIncomplete, err, "{given}", "profile "+quoted+" is a source_profile", "{missing}", "credentials")
		case next == "" || next == name: // a profile with keys may name itself
			return nil
		case slices.Contains(chain, next):
			return newError(ReasonSourceProfileLoop, err, "{profiles}", strings.Join(append(chain, next), ", "))
		}
		name, chain = next, append(chain, next)
	}
}

func has(settings map[string]string, key string) bool {
	_, ok := settings[key]
	return ok
}

// fileError returns the error of a chain of sources without credentials if the
// files are the likely cause, or nil.
func (i *Identity) fileError(err error) *Error {
	if !hasOperation(err, "ec2imds", "") { // the last resort of the chain
		return nil
	}
	files := readSharedFiles()
	if problems, remedies := files.problems(); problems != "" {
		return newError(ReasonConfigFileUnusable, err, "{problems}", problems, "{remedies}", remedies)
	}
	if names := files.names("profile"); i.profile() == "" && len(names) > 0 && !slices.Contains(names, defaultProfile) {
		return newError(ReasonProfileRequired, err, "{profile}", names[0], "{profiles}", `"`+strings.Join(names[:min(len(names), 5)], `", "`)+`"`, "{file}", files.where())
	}
	return nil
}
