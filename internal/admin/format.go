package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of texts on the page, in characters.
const (
	maxName    = 32
	maxAddress = 50 // IPv6
	maxMessage = 600
	maxHint    = 2000 // with a policy and a command line
	maxFull    = 1000 // in the tooltip
)

// excerpt is a text of a client or a server on the page.
type excerpt struct {
	Text string
	Full string // for the tooltip; empty if Text is complete
}

func formatName(text string) excerpt    { return truncate(text, maxName) }
func formatAddress(text string) excerpt { return truncate(text, maxAddress) }
func formatMessage(text string) excerpt { return truncate(collapseSpace(text), maxMessage) }
func formatHint(text string) excerpt    { return truncate(collapseSpace(text), maxHint) }

// collapseSpace replaces each run of white space and control characters with a space.
func collapseSpace(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

func truncate(text string, limit int) excerpt {
	if utf8.RuneCountInString(text) <= limit {
		return excerpt{Text: escapeInvisible(text)}
	}
	return excerpt{Text: escapeInvisible(firstRunes(text, limit-1)) + "…", Full: escapeInvisible(firstRunes(text, maxFull))}
}

// firstRunes returns the first n characters of text.
func firstRunes(text string, n int) string {
	for i := range text {
		if n--; n < 0 {
			return text[:i]
		}
	}
	return text
}

// escapeInvisible replaces control characters, characters that change the direction of text,
// and bytes that are not UTF-8 with their codes.
func escapeInvisible(text string) string {
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

// timestamp is a time on the page.
type timestamp struct{ RFC3339, Absolute, Relative string }

// newTimestamp returns nil for the zero time.
func newTimestamp(t, now time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &timestamp{t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05") + " UTC", relative(t, now)}
}

func relative(t, now time.Time) string {
	switch d := t.Sub(now).Round(time.Second); {
	case d > time.Minute && d < 5*time.Minute: // the end is near
		return fmt.Sprintf("in %d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d > 0:
		return "in " + formatAge(d)
	case d < 0:
		return formatAge(-d) + " ago"
	default:
		return "now"
	}
}

// formatAge formats a duration of seconds to years with its largest units.
func formatAge(d time.Duration) string {
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

// formatDuration formats a duration of milliseconds to seconds.
func formatDuration(d time.Duration) string {
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
