package text

import (
	"os/exec"
	"strings"
	"testing"
)

func TestShellCommand(t *testing.T) {
	words := []string{"printf", `%s\n`, "", "plain", "my dev", "it's", "$HOME `id` \"x\"", "a\\b", "-x", "h?a=b&c=d", "~", "*", "#x", "!!", "{a,b}", "ä"}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no POSIX shell")
	}
	command := ShellCommand(words...)
	out, err := exec.Command("sh", "-c", command).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if got, want := string(out), strings.Join(words[2:], "\n")+"\n"; got != want {
		t.Errorf("%s prints %q, want %q", command, got, want)
	}
	if got, want := ShellCommand("aws", "sso", "login", "--profile", "my dev"), "aws sso login --profile 'my dev'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFlagList(t *testing.T) {
	if got, want := FlagList("a", "b,c"), `a,b\,c`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
