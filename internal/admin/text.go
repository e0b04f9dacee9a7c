package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// squeeze has a space for all that is space or control.
func squeeze(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

// word is a text that somebody else chose, on a page: Full is the whole, if Text is not.
type word struct{ Text, Full string }

// Of a name so much is shown, of an address (IPv6), and of a message; so much of either where the pointer
// rests on it.
const (
	nameLength    = 32
	addressLength = 50
	messageLength = 600
	fullLength    = 1000
)

func name(text string) word    { return cut(text, nameLength) }
func address(text string) word { return cut(text, addressLength) }
func message(text string) word { return cut(squeeze(text), messageLength) }

func cut(text string, most int) word {
	if utf8.RuneCountInString(text) <= most {
		return word{Text: visible(text)}
	}
	return word{Text: visible(first(text, most-1)) + "…", Full: visible(first(text, fullLength))}
}

func first(text string, runes int) string {
	for i := range text {
		if runes--; runes < 0 {
			return text[:i]
		}
	}
	return text
}

// visible writes out what would not be seen, or make something else look other than
// it is: control characters, those that turn the direction of writing, and bytes that
// are no characters.
func visible(text string) string {
	var out strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, "⟨%02X⟩", rest[0])
		case strconv.IsPrint(r):
			out.WriteRune(r)
		default:
			fmt.Fprintf(&out, "⟨U+%04X⟩", r)
		}
		rest = rest[size:]
	}
	return out.String()
}

// moment is a time on a page.
type moment struct{ Machine, Absolute, Relative string }

// at is nil for a time that is not known.
func at(t, now time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &moment{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05") + " UTC", relative(t, now)}
}

func relative(t, now time.Time) string {
	switch d := t.Sub(now).Round(time.Second); {
	case d > 0:
		return "in " + span(d)
	case d < 0:
		return span(-d) + " ago"
	default:
		return "now"
	}
}

// span is a duration with as much of it as matters.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

// short is how long a step took.
func short(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d == 0:
		return "0 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for ; value >= 999.5 && unit < 4; unit++ {
		value /= 1000
	}
	digits := 1
	if value >= 99.95 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %cB", digits, value, "kMGTP"[unit])
}

func count[N int | int64](n N, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
