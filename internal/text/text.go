// Package text has what all that is written for people has in common.
package text

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// OneLine keeps what others say (a server's message, a role's name, a program's output) from
// breaking the line that it is quoted in, or from doing anything to a terminal: a space
// stands for control characters, and for those that hide others or turn them around.
func OneLine(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
	return strings.ToValidUTF8(strings.Join(words, " "), "\uFFFD")
}

// Advice is what to do about an error, as it or one of those in it says by a method
// Advice() string. It may be empty.
func Advice(err error) string {
	var adviser interface{ Advice() string }
	if errors.As(err, &adviser) {
		return adviser.Advice()
	}
	return ""
}

// WithAdvice adds to an error what there is to do about it.
func WithAdvice(err error) error {
	if advice := Advice(err); advice != "" {
		return fmt.Errorf("%w; %s", err, advice)
	}
	return err
}
