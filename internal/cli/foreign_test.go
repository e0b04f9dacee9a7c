package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The reference has the flags that advice suggests, and none of those that it is for.
func TestForeignFlags(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := func(flag string) bool { return regexp.MustCompile("`--" + flag + "[` ]").Match(reference) }
	for _, advice := range foreignFlags {
		for _, name := range advice.Names {
			if exists(name) {
				t.Errorf("--%s is a flag", name)
			}
		}
		if advice.Flag != "" && !strings.Contains(advice.Text, "--"+advice.Flag) {
			t.Errorf("%s: %s does not name --%s", advice.Names, advice.Text, advice.Flag)
		}
		for _, found := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(advice.Text, -1) {
			if !exists(found[1]) && found[1] != "password-file" { // of grant
				t.Errorf("%s: there is no --%s", advice.Names, found[1])
			}
		}
	}
}

func TestRoff(t *testing.T) {
	for text, want := range map[string]string{
		"--via HOST":                    `\-\-via HOST`,
		"a \\\n    b":                   "a \\e\n    b",
		"'first\n.hidden\n'quoted\nend": "\\&'first\n\\&.hidden\n\\&'quoted\nend",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
