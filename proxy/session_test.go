package proxy

import "testing"

func TestTruncate(t *testing.T) {
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "abc", "aäö": "aä", "ääää": "ä", "\x80\x80\x80\x80": ""} {
		if got := truncate(text, 3); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}
