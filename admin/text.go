package admin

import (
	"strings"
	"unicode"
)

// oneLine keeps what comes from elsewhere, an error's text or a user's name, from
// breaking the line that it is quoted in.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}
