// Package text formats messages for users.
package text

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// OneLine returns text as one line of printable characters. Each run of white space, control
// characters and other unprintable characters, such as those that reverse the direction of
// text, becomes one space. It makes untrusted text, such as a server's message, safe for
// logs and terminals.
func OneLine(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.ToValidUTF8(strings.Join(words, " "), "\uFFFD")
}

// Advice returns the hint of the first error in err's tree that has a method Advice() string,
// or "" if none has.
func Advice(err error) string {
	var adviser interface{ Advice() string }
	if errors.As(err, &adviser) {
		return adviser.Advice()
	}
	return ""
}

// WithAdvice returns err with its Advice appended to the message, as a sentence.
func WithAdvice(err error) error {
	if advice := Advice(err); advice != "" {
		return fmt.Errorf("%w. %s", err, advice)
	}
	return err
}

// WithoutPath returns the cause of err if it is about the path of a file, and else err.
func WithoutPath(err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}
