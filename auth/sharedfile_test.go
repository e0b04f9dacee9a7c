package auth

import (
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestSharedFiles verifies what is read from the files, and the errors about them.
func TestSharedFiles(t *testing.T) {
	const keys = "\naws_access_key_id = AKIAX\naws_secret_access_key = s\n"
	for name, test := range map[string]struct {
		config, credentials string
		profile             string
		reason              Reason // of Load or of a token; empty: there is a token
		want                string // part of the message
	}{
		"profile":                    {config: "[profile p]" + keys, profile: "p"},
		"carriage returns":           {config: "[profile p]\r\naws_access_key_id = AKIAX\r\naws_secret_access_key = s\r\n", profile: "p"},
		"only carriage returns":      {config: "[profile p]\raws_access_key_id = AKIAX\raws_secret_access_key = s\r", profile: "p"},
		"byte order mark":            {config: "\ufeff[profile p]" + keys, profile: "p"},
		"double quotes":              {config: `[profile "my keys"]` + keys, profile: "my keys"},
		"single quotes":              {config: `[ profile  'my keys' ] # comment` + keys, profile: "my keys"},
		"no quotes":                  {config: `[profile my keys]` + keys, profile: "my keys"},
		"a comment sign in a name":   {config: "[default]" + keys + "[profile 'a#b']\naws_access_key_id = AKIAOTHER\n"},
		"profile with such a name":   {config: "[default]" + keys + "[profile a;b]" + keys, profile: "a;b", reason: ReasonProfileMissing, want: "config has [profile a;b], which the AWS SDK for Go cannot read"},
		"a bracket in quotes":        {config: `[profile "a]b"]` + keys, profile: "a]b"},
		"quotes and credentials":     {config: "[profile 'a b']\nregion = eu-west-1\n", credentials: "[a b]" + keys, profile: "a b"},
		"a large file":               {config: "[profile 'a b']" + keys + strings.Repeat("# padding\n", 20_000), profile: "a b"},
		"UTF-16":                     {config: "\xff\xfe[\x00p\x00]\x00", reason: ReasonConfigFileUnusable, want: "config is encoded in UTF-16"},
		"UTF-16, with a profile":     {config: "\xff\xfe[\x00p\x00]\x00", profile: "p", reason: ReasonProfileMissing, want: "config is encoded in UTF-16"},
		"NUL bytes":                  {credentials: "[\x00p\x00]\x00", reason: ReasonConfigFileUnusable, want: "credentials contains NUL bytes"},
		"no section":                 {credentials: "aws_access_key_id = AKIAX\naws_secret_access_key = TOPSECRET\n", reason: ReasonConfigFileUnusable, want: "credentials has no section such as [default]"},
		"only comments":              {config: "# nothing\n; here\n\n", reason: ReasonNoCredentials},
		"another profile":            {config: "[profile p]" + keys, reason: ReasonProfileRequired, want: `there is no profile "default"`},
		"another default profile":    {config: "[default]\nregion = eu-west-1\n[profile p]" + keys, reason: ReasonNoCredentials},
		"similar":                    {config: "[profile production]" + keys, profile: "prod", reason: ReasonProfileMissing, want: `similar: "production"`},
		"misspelled":                 {config: "[profile staging]" + keys, profile: "stagin", reason: ReasonProfileMissing, want: `similar: "staging"`},
		"not similar":                {config: "[profile staging]" + keys, profile: "x", reason: ReasonProfileMissing, want: `there is no AWS profile "x" in `},
		"no kind":                    {config: "[p]" + keys, profile: "p", reason: ReasonProfileMissing, want: "config has [p]; write [profile p]"},
		"session without a kind":     {config: "[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[s]\n", profile: "p", reason: ReasonSSOSessionMissing, want: "has [s]; write [sso-session s]"},
		"a loop of itself":           {config: "[profile p]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = p\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "p" is a source_profile without credentials`},
		"a loop of three":            {config: "[profile p]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = q\n[profile q]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = r\n[profile r]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = p\n", profile: "p", reason: ReasonSourceProfileLoop, want: "p, q, r, p"},
		"secret without a key":       {credentials: "[p]\naws_secret_access_key = TOPSECRET\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "p" has aws_secret_access_key without aws_access_key_id`},
		"half a source":              {credentials: "[p]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = q\n[q]\naws_access_key_id = AKIAX\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "q"`},
		"secret as a session":        {config: "[profile p]\nsso_session = {\"secret\":1}\nsso_account_id = 1\nsso_role_name = r\n", profile: "p", reason: ReasonSSOSessionMissing, want: "sso_session (12 characters, not shown), and"},
		"session without an account": {config: "[profile p]\nsso_session = s\n[sso-session s]\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "p" has sso_session without sso_account_id and sso_role_name`},
		"session without a role":     {config: "[profile p]\nsso_session = s\nsso_account_id = 1\n[sso-session s]\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "p" has sso_account_id without sso_role_name`},
		"an incomplete session":      {config: "[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\nsso_region = eu-west-1\n", profile: "p", reason: ReasonConfigurationInvalid, want: "sso_start_url"},
		"a setting that is invalid":  {config: "[profile p]" + keys + "max_attempts = many\n", profile: "p", reason: ReasonSettingInvalid, want: `max_attempts "many" of profile "p" is not a number`},
		"no source of the role":      {config: "[profile p]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = q\n[profile q]\nregion = eu-west-1\n", profile: "p", reason: ReasonSettingIncomplete, want: `profile "q" is a source_profile without credentials`},
		"a session of another file":  {config: "[profile p]" + keys, credentials: "[sso-session 'x']\n[q]" + keys, profile: "q"},
		"a comment with brackets":    {config: "[profile p] # [see]" + keys, profile: "p"},
		"keys of two files, as ever": {config: "[profile p]\nregion = eu-west-1\n", credentials: "[p]" + keys, profile: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			emptyEnvironment(t)
			dir := t.TempDir()
			t.Setenv("AWS_CONFIG_FILE", file(t, dir, "config", test.config))
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, dir, "credentials", test.credentials))
			identity := &Identity{Profile: test.profile, Region: testRegion}
			err := identity.Load(t.Context())
			token := ""
			if err == nil {
				token, err = (&Tokens{Endpoint: testEndpoint, Region: testRegion, Identity: identity}).Token(t.Context(), "u")
			}
			switch {
			case err == nil && !strings.Contains(token, "Credential=AKIAX%2F"):
				t.Error("the token is not signed by the keys of the profile")
			case test.reason == "" && err != nil, test.reason != reasonOf(err):
				t.Errorf("got %s: %v, want %q", reasonOf(err), err, test.reason)
			case err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "TOPSECRET")):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestNamesInQuotesWithoutMemoryFiles verifies the error where the SDK cannot get a
// copy of a file in memory.
func TestNamesInQuotesWithoutMemoryFiles(t *testing.T) {
	config := sharedFile{variable: "AWS_CONFIG_FILE", name: "config"}
	config.parse([]byte("[profile 'a b']\nsso_session = My Corp\n[sso-session 'My Corp']\n"))
	files := sharedFiles{config: config, credentials: sharedFile{name: "credentials"}}
	for _, test := range []struct {
		err  error
		want string
	}{
		{awsconfig.SharedConfigProfileNotExistError{Profile: "a b"}, `there is no AWS profile "a b" in config or credentials: config has [profile 'a b']; write [profile a b]`},
		{errors.New("failed to find SSO session section, My Corp"),
			`profile "a b" has sso_session My Corp, and there is no [sso-session My Corp] in config: config has [sso-session 'My Corp']; write [sso-session My Corp]`},
	} {
		if got := files.profileError("a b", test.err); got == nil || got.Error() != test.want {
			t.Errorf("got %v, want %s", got, test.want)
		}
	}
}

// TestExpandHome verifies the order of the variables that name the home directory.
func TestExpandHome(t *testing.T) {
	for _, name := range []string{"HOME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOMEDRIVE", "/drive")
	t.Setenv("HOMEPATH", "/path")
	for _, test := range []struct{ set, path, want string }{
		{"", "~/.aws/config", "/drive/path/.aws/config"},
		{"USERPROFILE", "~/.aws/config", "/userprofile/.aws/config"},
		{"HOME", "~/.aws/config", "/home/.aws/config"},
		{"", "~", "/home"},
		{"", "~other/config", "~other/config"},
		{"", "/x/~/config", "/x/~/config"},
		{"", "config", "config"},
	} {
		if test.set != "" {
			t.Setenv(test.set, "/"+strings.ToLower(test.set))
		}
		if got := expandHome(test.path); got != test.want {
			t.Errorf("%s: got %s, want %s", test.path, got, test.want)
		}
	}
}

// TestPipesAreLeftToTheSDK verifies that a pipe, which can be read only once, may be
// the file with the credentials.
func TestPipesAreLeftToTheSDK(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a look at a pipe of Windows opens it")
	}
	emptyEnvironment(t)
	path, release, ok := memoryFile("[p]\naws_access_key_id = AKIAX\naws_secret_access_key = s\n")
	if !ok {
		t.Fatal("no file in memory")
	}
	defer release()
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	t.Setenv("AWS_DEFAULT_PROFILE", "p")
	if _, err := load(t, "").loaded().fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFileName verifies that a message does not repeat the content of a file that is
// in the variable instead of its path.
func TestFileName(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for path, want := range map[string]string{
		"/home/me/.aws/config":               "~/.aws/config",
		"/home/mes/config":                   "/home/mes/config",
		"/etc/aws/my config":                 "/etc/aws/my config",
		"[default]\naws_secret_access_key=s": "the file of AWS_CONFIG_FILE",
		`{"SecretAccessKey": "s"}`:           "the file of AWS_CONFIG_FILE",
		"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4":  "the file of AWS_CONFIG_FILE",
	} {
		if got := fileName("AWS_CONFIG_FILE", path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

// TestUnusedFileIsLogged verifies that a file that cannot be used is a warning if there
// are other credentials.
func TestUnusedFileIsLogged(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "nowhere"))
	core, logged := observer.New(zap.WarnLevel)
	if err := (&Identity{Region: testRegion, Log: zap.New(core)}).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries := logged.All()
	if len(entries) != 1 || !strings.Contains(entries[0].ContextMap()["problem"].(string), "nowhere does not exist (AWS_CONFIG_FILE)") {
		t.Errorf("got %v", entries)
	}
}

// FuzzSharedFile verifies that the form for the SDK has the same sections, and that it
// needs no further change.
func FuzzSharedFile(f *testing.F) {
	for _, content := range []string{
		"[profile 'a b']\nregion = x\n[sso-session \"My Corp\"]\n", "\ufeff[default]\r\nretry_mode = legacy\r\n", "[a\r[b]\r", "[profile \"a]b\"] ; c\n=\n",
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		first := sharedFile{variable: "AWS_CONFIG_FILE"}
		first.parse([]byte(content))
		if first.content == "" || slices.ContainsFunc(first.sections, func(s section) bool { return strings.ContainsAny(s.name, "'\"]") }) {
			return // such a name is read differently without its quotes, but not by the SDK
		}
		second := sharedFile{variable: "AWS_CONFIG_FILE"}
		second.parse([]byte(first.content))
		if len(first.sections) != len(second.sections) {
			t.Fatalf("%d sections, then %d", len(first.sections), len(second.sections))
		}
		for n, s := range first.sections {
			if again := second.sections[n]; !s.unreadable() && (again.kind != s.kind || again.name != s.name) {
				t.Errorf("section %q %q, then %q %q", s.kind, s.name, again.kind, again.name)
			}
		}
	})
}
