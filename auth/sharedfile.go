package auth

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/iamproxy/iamproxy/internal/text"
)

// sharedFiles are the two files of the AWS configuration. The SDK skips a file that
// it cannot read, and skips lines that it does not understand.
//
// https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html
// https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
type sharedFiles struct{ config, credentials sharedFile }

// sharedFile is one of the files as it is on disk.
type sharedFile struct {
	variable string // may name the file
	path     string
	name     string // of the file, for messages
	problem  string // why the file cannot be used, as the rest of a sentence; may be empty
	remedy   string // a sentence; empty without a problem
	unread   bool   // it is a pipe or a device, which is left to the SDK
	// content is the file in the form that the SDK reads. It is empty if the file
	// has this form.
	content  string
	sections []section
}

// section is a section of a file.
type section struct {
	heading    string // as in the file, without brackets
	kind, name string // the kind is "profile", "sso-session", "services" or empty
	settings   map[string]string
}

// The settings of a profile that are read here.
const (
	accessKeyKey     = "aws_access_key_id"
	secretKeyKey     = "aws_secret_access_key" //nolint:gosec // not a credential
	sourceProfileKey = "source_profile"
	ssoSessionKey    = "sso_session"
	processKey       = "credential_process"
)

// defaultProfile is the profile that is used if none is set.
const defaultProfile = "default"

// sharedFilePaths returns the paths of the config and the credentials file.
func sharedFilePaths() (configPath, credentialsPath string) {
	return expandHome(cmp.Or(os.Getenv("AWS_CONFIG_FILE"), config.DefaultSharedConfigFilename())),
		expandHome(cmp.Or(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), config.DefaultSharedCredentialsFilename()))
}

// expandHome replaces a ~ at the beginning of a path with the home directory.
func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && !os.IsPathSeparator(rest[0]) {
		return path
	}
	return cmp.Or(homeDir(), "~") + rest
}

// homeDir returns the home directory, or "".
func homeDir() string {
	if home := cmp.Or(os.Getenv("HOME"), os.Getenv("USERPROFILE"), os.Getenv("HOMEDRIVE")+os.Getenv("HOMEPATH")); home != "" {
		return home
	}
	if current, err := user.Current(); err == nil {
		return current.HomeDir
	}
	return ""
}

// fileName returns the name of a file for messages: a path in the home directory
// begins with ~. It does not repeat a value that does not look like a path, which
// may be the content of the file.
func fileName(variable, path string) string {
	if !isPlainPath(path) || strings.HasPrefix(path, "eyJ") { // as a JSON web token
		return "the file of " + variable
	}
	home := homeDir()
	if rest, ok := strings.CutPrefix(path, home); ok && len(home) > 1 && rest != "" && os.IsPathSeparator(rest[0]) {
		return "~" + filepath.ToSlash(rest)
	}
	return path
}

// isPlainPath reports whether path is short and has only characters that are common in
// paths. A regular expression for it would need a megabyte of memory.
func isPlainPath(path string) bool {
	return path != "" && utf8.RuneCountInString(path) <= 200 && !strings.ContainsFunc(path, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune(` $./\~@%+,:()_-`, r)
	})
}

func readSharedFiles() sharedFiles {
	configPath, credentialsPath := sharedFilePaths()
	return sharedFiles{
		readSharedFile("AWS_CONFIG_FILE", configPath),
		readSharedFile("AWS_SHARED_CREDENTIALS_FILE", credentialsPath),
	}
}

func readSharedFile(variable, path string) sharedFile {
	f := sharedFile{variable: variable, path: path, name: fileName(variable, path)}
	info, err := os.Stat(path)
	var content []byte
	switch {
	case err == nil && info.IsDir():
		f.problem, f.remedy = "is a directory, not a file", "Set "+variable+" to the path of a file."
		return f
	case err == nil && !info.Mode().IsRegular():
		f.unread = true // a pipe can be read only once
		return f
	case err == nil:
		content, err = os.ReadFile(path)
	}
	named := os.Getenv(variable) != ""
	switch {
	case errors.Is(err, fs.ErrNotExist) && named:
		f.problem, f.remedy = "does not exist ("+variable+")", "Correct the path in "+variable+", or unset it."
	case errors.Is(err, fs.ErrNotExist), err != nil && !named && !isDir(filepath.Dir(path)):
		// The home directory may belong to another user and have no AWS files.
	case err != nil:
		f.problem, f.remedy = "could not be read: "+text.WithoutPath(err).Error(), "Make the file readable for the user that runs iamproxy."
	default:
		f.parse(content)
	}
	return f
}

func isDir(path string) bool {
	info, err := os.Stat(path) //nolint:gosec // named by the user's environment
	return err == nil && info.IsDir()
}

// parse sets sections, problem and content.
func (f *sharedFile) parse(content []byte) {
	const mark = "\ufeff"
	switch text := string(content); {
	case bytes.HasPrefix(content, []byte("\xff\xfe")) || bytes.HasPrefix(content, []byte("\xfe\xff")):
		f.problem, f.remedy = "is encoded in UTF-16", "Save the file as UTF-8."
	case strings.Contains(text, "\x00"):
		f.problem, f.remedy = "contains NUL bytes", "Save the file as text in UTF-8."
	default:
		plain := strings.TrimPrefix(text, mark)
		if !strings.Contains(plain, "\n") {
			plain = strings.ReplaceAll(plain, "\r", "\n")
		}
		if plain = f.parseLines(plain); plain != text {
			f.content = plain
		}
		if len(f.sections) == 0 && isData(plain) {
			f.problem, f.remedy = "has no section such as "+f.example(), "Write the settings below a heading such as "+f.example()+"."
			if strings.HasPrefix(strings.TrimSpace(plain), "{") {
				f.problem = "is JSON, and has no section such as " + f.example()
			}
		}
	}
}

// example returns a heading as the file may have it.
func (f *sharedFile) example() string {
	if f.isConfig() {
		return "[profile dev]"
	}
	return "[default]"
}

func (f *sharedFile) isConfig() bool { return f.variable == "AWS_CONFIG_FILE" }

// isData reports whether a line is neither empty nor a comment.
func isData(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
			return true
		}
	}
	return false
}

// parseLines sets sections and returns the text with the headings as the SDK
// understands them. Only the AWS CLI understands names in quotes, which it writes.
func (f *sharedFile) parseLines(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for n, line := range lines {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			if heading := heading(trimmed); heading != "" {
				s := newSection(heading)
				f.sections = append(f.sections, s)
				switch {
				case s.unreadable():
					lines[n] = "[-]\n" // otherwise the settings would be those of the section before
				case f.isConfig() && s.quoted():
					lines[n] = "[" + s.kind + " " + s.name + "]\n"
				}
			}
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && len(f.sections) > 0 && line[0] != ' ' && line[0] != '\t' && line[0] != '#' && line[0] != ';' {
			command := strings.TrimSpace(value)
			key, value = strings.ToLower(strings.TrimSpace(key)), settingValue(value)
			if key == processKey {
				value = command // the shell reads quotes and comments
			}
			if key == accessKeyKey || key == secretKeyKey || key == "aws_session_token" {
				value = "" // only its presence is of interest
			}
			if key == "retry_mode" && value == "legacy" {
				lines[n] = "\n" // the SDK for Go does not have it, and would fail
				continue
			}
			f.sections[len(f.sections)-1].settings[key] = value
		}
	}
	return strings.Join(lines, "")
}

// heading returns what is between the brackets of a line, or "". A bracket in quotes
// is part of a name.
func heading(line string) string {
	quote := rune(0)
	for n, r := range line {
		switch {
		case r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote == 0 && r == ']':
			return strings.TrimSpace(line[1:n])
		}
	}
	return ""
}

// settingValue returns a value without its comment and quotes.
func settingValue(text string) string {
	for _, mark := range []string{" #", " ;", "\t#", "\t;"} {
		text, _, _ = strings.Cut(text, mark)
	}
	return unquote(strings.TrimSpace(text))
}

func unquote(text string) string {
	if n := len(text); n > 1 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}

func newSection(heading string) section {
	s := section{heading: heading, name: unquote(heading), settings: make(map[string]string)}
	if end := strings.IndexAny(heading, " \t"); end > 0 {
		if kind := heading[:end]; slices.Contains([]string{"profile", "sso-session", "services"}, kind) {
			s.kind, s.name = kind, unquote(strings.TrimSpace(heading[end:]))
		}
	}
	return s
}

// quoted reports whether the name of a section with a kind is in quotes.
func (s section) quoted() bool { return s.kind != "" && !strings.HasSuffix(s.heading, s.name) }

// unreadable reports whether the SDK does not take the heading for one: what follows
// these characters is a comment.
func (s section) unreadable() bool {
	return strings.ContainsAny(s.heading, "#;") || s.kind != "" && (s.name == "" || s.name != strings.TrimSpace(s.name))
}

// isProfile reports whether the section is a profile for the SDK.
func (f *sharedFile) isProfile(s section) bool {
	if f.isConfig() {
		return s.kind == "profile" || s.kind == "" && strings.EqualFold(s.name, defaultProfile)
	}
	return s.kind == "" && s.name == s.heading
}

// profile returns the settings of a profile of both files. It returns nil if there
// is no such profile.
func (f *sharedFiles) profile(name string) map[string]string {
	var settings map[string]string
	for _, file := range []*sharedFile{&f.config, &f.credentials} {
		for _, s := range file.sections {
			if file.isProfile(s) && s.name == name {
				if settings == nil {
					settings = make(map[string]string)
				}
				maps.Copy(settings, s.settings)
			}
		}
	}
	return settings
}

// names returns the names of the sections of a kind in both files, sorted.
func (f *sharedFiles) names(kind string) []string {
	var names []string
	for _, file := range []*sharedFile{&f.config, &f.credentials} {
		for _, s := range file.sections {
			if kind == "profile" && file.isProfile(s) || kind != "profile" && s.kind == kind {
				names = append(names, s.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// problems describes the files that cannot be used, and returns sentences with the
// remedies. It returns empty strings if both files are usable.
func (f *sharedFiles) problems() (problems, remedies string) {
	var found, sentences []string
	for _, file := range []*sharedFile{&f.config, &f.credentials} {
		if file.problem != "" {
			found, sentences = append(found, file.name+" "+file.problem), append(sentences, file.remedy)
		}
	}
	return strings.Join(found, "; "), strings.Join(slices.Compact(sentences), " ")
}

// where returns the names of the files that were searched.
func (f *sharedFiles) where() string {
	if f.config.name == f.credentials.name {
		return f.config.name
	}
	return f.config.name + " or " + f.credentials.name
}

// missing describes why a section is not found: the files are unusable, have it
// under another heading, or have a similar name. It returns "" if none applies.
func (f *sharedFiles) missing(kind, name string) string {
	if problems, _ := f.problems(); problems != "" {
		return ": " + problems
	}
	for _, file := range []*sharedFile{&f.config, &f.credentials} {
		right := name
		if file.isConfig() && (kind != "profile" || name != defaultProfile) {
			right = kind + " " + name
		}
		for _, s := range file.sections {
			if s.unreadable() && s.name == name {
				return ": " + file.name + " has [" + s.heading + "], which the AWS SDK for Go cannot read; give it a name without # and ;"
			}
			if s.heading != right && (s.name == name || unquote(s.heading) == kind+" "+name) && (s.kind == "" || s.kind == kind) {
				return ": " + file.name + " has [" + s.heading + "]; write [" + right + "]"
			}
		}
	}
	if similar := similarNames(name, f.names(kind)); len(similar) > 0 {
		return `; similar: "` + strings.Join(similar, `", "`) + `"`
	}
	return ""
}

// similarNames returns those of names that may be meant by name.
func similarNames(name string, names []string) (similar []string) {
	lower := strings.ToLower(name)
	for _, other := range names {
		candidate := strings.ToLower(other)
		if len(lower) > 2 && strings.Contains(candidate, lower) || len(candidate) > 2 && strings.Contains(lower, candidate) ||
			text.Distance(lower, candidate) <= 1+utf8.RuneCountInString(lower)/3 {
			similar = append(similar, other)
		}
	}
	return similar[:min(len(similar), 3)]
}
