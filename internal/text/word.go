package text

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Form describes the words that a setting can have. An error repeats a word only if it has the
// form, since any other word may be a secret in the wrong place.
type Form struct{ matches func(word string) bool }

// The forms of settings.
var (
	// Plain is a short word, such as the value of an enumeration or the name of a command.
	Plain = form(`[a-z]([a-z-]{0,14}[a-z])?`)
	// Number is a number, with or without a unit, or a short word in its place.
	Number = form(`[+-]?[0-9]{1,7}([.,][0-9]{1,6})?[a-z%]{0,3}|[a-z]{1,8}`)
	// Region is the name of a region or of an availability zone.
	Region = form(`[a-z]{2,8}(-[a-z0-9]{1,12}){1,4}`)
	// Host is a fully qualified name or an address, with or without a port.
	Host = form(`(([A-Za-z0-9_-]+\.)+[A-Za-z0-9_-]+\.?|[0-9.]{1,15}|localhost|\[[0-9A-Fa-f:.]{2,45}\])?(:[0-9]{1,6})?|[0-9A-Fa-f:.]{2,45}`)
	// Port is the port of an address.
	Port = form(`[0-9]{0,6}|[a-z]{1,8}`)
	// Name is a name that people give, such as that of a profile.
	Name = form(`([\pL\pN_][\pL\pN _.@+/-]{0,63})?`)
	// Path is the path of a file, with a directory or an extension.
	Path = form(`([A-Za-z]:)?[\pL\pN_.~+@, ()\\/-]*([/\\][\pL\pN_.~+@, ()-]*|\.[A-Za-z0-9]{1,8})`)
)

func form(pattern string) Form { return Form{Matching(`^(` + pattern + `)$`)} }

// Regexp returns a function that returns a regular expression. It is compiled when the function is
// first called: a process uses few of all expressions, and health checks start one every few seconds.
func Regexp(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// Matching returns a function that reports whether a word matches a regular expression, which is
// compiled as by Regexp.
func Matching(pattern string) func(word string) bool {
	compiled := Regexp(pattern)
	return func(word string) bool { return compiled().MatchString(word) }
}

// Quote returns word in double quotes, or its length if it does not have the form.
func (f Form) Quote(word string) string {
	if word == "" || f.Matches(word) {
		return strconv.Quote(word)
	}
	return NotShown(word)
}

// Matches reports whether word has the form.
func (f Form) Matches(word string) bool { return f.matches(word) }

// NotShown stands for a word that an error must not repeat.
func NotShown(word string) string {
	return fmt.Sprintf("(%d characters, not shown)", utf8.RuneCountInString(word))
}

// Shape describes a value that is not a single word.
type Shape string

// The shapes of values. Each completes a sentence that begins with "it is".
const (
	JSON             Shape = "JSON, as a whole secret is"
	URL              Shape = "a URL"
	ConnectionString Shape = "a connection string"
	Assignment       Shape = "a name with a password or a key after it"
	PasswordLine     Shape = "a line of a password file"
	Query            Shape = "a part of a URL with a password"
	Token            Shape = "a token"
	Command          Shape = "a command, as of --via"
	UserAndHost      Shape = "an address with a user or a password"
	PEM              Shape = "the content of a PEM file"
	ARN              Shape = "an ARN"
	Base64           Shape = "base64, as a secret can be"
)

var shapes = []struct {
	shape   Shape
	matches func(value string) bool
}{
	{PEM, Matching(`-----BEGIN`)},
	{JSON, Matching(`^[\s\x{FEFF}'"\\]*(\{|\[\s*[{"\[])|["']\s*:\s*["'{\[\w-]`)},
	{URL, Matching(`(?i)(^|[\s,;'"])([a-z][a-z0-9+.-]*:)+//|^[\s'"]*(jdbc:)?postgres(ql)?:`)},
	{Token, Matching(`(?i)\bX-Amz-(Signature|Credential|Security-Token)=|\?Action=connect`)},
	{ConnectionString, Matching(`(?i)(^|[\s,;'"])(host|hostaddr|port|user|username|user id|password|passwd|pwd|dbname|database|sslmode|server|data source|service|passfile)\s*=`)},
	{Assignment, Matching(`(?im)^[\s'"]*(export\s+|set\s+)?([a-z0-9]+[_-])*[a-z0-9]*(password|passwd|pwd|secret|token|access[_-]?key|secret[_-]?key)([_-]?[a-z0-9]+)*\s*(=|:\s)|^(AKIA|ASIA)[A-Z0-9]{12,}:`)},
	{PasswordLine, Matching(`^[^:\s]*\.[^:\s]*:(\*|[0-9]+):[^:]+:[^:]+:`)},
	{ARN, Matching(`^\s*arn:[a-z-]+:`)},
	{UserAndHost, Matching(`^[^?@]*:[^?@]*@`)},
	{Query, Matching(`(?i)[?&](password|passwd|pwd|sslpassword)=`)}, // in an ENDPOINT it is an unknown key
}

// HasCommand reports whether word may contain exec:COMMAND, also if exec: is misspelled.
func HasCommand(word string) bool { return commandPattern().MatchString(word) }

var commandPattern = Regexp(`(?i)exec(\s|\+|%20)*(:|%3a)`)

var isBase64Word = Matching(`^[A-Za-z0-9+/_-]{12,}={0,2}$`)

// ShapeOf returns the shape of a value, or "" if it can be a word. It looks at the whole value,
// which must not be split at commas before, up to a command, which may contain anything.
// Percent-encoding does not hide a shape.
func ShapeOf(value string) Shape {
	if command := commandPattern().FindStringIndex(value); command != nil {
		value = value[:command[0]]
	}
	for range 3 { // a value may be encoded twice
		for _, s := range shapes {
			if s.matches(value) {
				return s.shape
			}
		}
		decoded, err := url.PathUnescape(value)
		if err != nil || decoded == value {
			break
		}
		value = decoded
	}
	if isEncoded(value) {
		return Base64
	}
	return ""
}

// isEncoded reports whether value is base64 of something that has a shape.
func isEncoded(value string) bool {
	value = strings.Join(strings.Fields(value), "")
	if !isBase64Word(value) {
		return false
	}
	value = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(value, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(value)
	return err == nil && utf8.Valid(decoded) && ShapeOf(string(decoded)) != ""
}

// Closest returns the candidate that word is a misspelling of, or "" if there is none.
func Closest(word string, candidates []string) (closest string) {
	best := 3 // more changes are no misspelling
	for _, candidate := range candidates {
		n := Distance(word, candidate)
		if len(word) > 2 && strings.HasPrefix(candidate, word) {
			n = min(n, 1)
		}
		if n < best && n < len(candidate)-1 {
			best, closest = n, candidate
		}
	}
	return closest
}

// Distance returns the number of characters to insert, delete, replace or swap with their
// neighbor to make b of a.
func Distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
