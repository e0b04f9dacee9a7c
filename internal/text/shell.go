package text

import "strings"

var isShellSafe = Matching(`^[A-Za-z0-9_./:=@%+,-]+$`)

// ShellQuote returns word quoted for a POSIX shell where it has to be.
func ShellQuote(word string) string {
	if isShellSafe(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ShellCommand returns the command line of words for a POSIX shell.
func ShellCommand(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = ShellQuote(word)
	}
	return strings.Join(quoted, " ")
}

// FlagList returns the value of a flag that takes a list, in which a comma within an element is
// escaped.
func FlagList(elements ...string) string {
	escaped := make([]string, len(elements))
	for i, element := range elements {
		escaped[i] = strings.ReplaceAll(element, ",", `\,`)
	}
	return strings.Join(escaped, ",")
}
