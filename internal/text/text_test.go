package text

import (
	"errors"
	"fmt"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		" a\tb\r\n c ":                  "a b c",
		"ev\x1b[31mil":                  "ev [31mil",
		"a\u202ecod.exe":                "a cod.exe", // right-to-left override
		"a\u200bb\u00a0c\u2028d\u0085e": "a b c d e",
		"\x1b]0;owned\x07\x1b[2Jx":      "]0;owned [2Jx",
		"\u009b31mred":                  "31mred", // CSI as one C1 control
		"back\u202ewards\u2066":         "back wards",
		"Grüße, 世界":                     "Grüße, 世界",
		"a\xffb":                        "a\uFFFDb",
	} {
		if got := OneLine(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("a\n\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		got := OneLine(text)
		if !utf8.ValidString(got) || OneLine(got) != got {
			t.Errorf("%q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q has %U", got, r)
			}
		}
	})
}

type advised struct{ advice string }

func (advised) Error() string    { return "failed" }
func (a advised) Advice() string { return a.advice }

func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		err          error
		advice, both string
	}{
		{errors.New("failed"), "", "failed"},
		{advised{}, "", "failed"},
		{advised{"Log in again."}, "Log in again.", "failed. Log in again."},
		{fmt.Errorf("no login: %w", advised{"Log in again."}), "Log in again.", "no login: failed. Log in again."},
	} {
		if got := Advice(test.err); got != test.advice {
			t.Errorf("%v: advice %q", test.err, got)
		}
		if got := WithAdvice(test.err); got.Error() != test.both || !errors.Is(got, test.err) {
			t.Errorf("got %q, want %q", got, test.both)
		}
	}
}
