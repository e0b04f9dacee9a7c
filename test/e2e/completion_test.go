//go:build unix

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completions has command lines, and what the last word of each can be completed to, in the
// directory of TestCompletion.
var completions = []struct{ line, want string }{
	{"iamproxy chec", "check"},
	{"iamproxy check --ti", "--timeout"},
	{"iamproxy token $HOST --ext", "--external-id"},
	{"iamproxy $HOST --connect-t", "--connect-timeout"},
	{"iamproxy $HOST --log-level wa", "warn"},
	{"iamproxy $HOST --log-level=wa", "warn"},
	{"iamproxy policy $HOST --format te", "terraform"},
	{"iamproxy $HOST --ca-file roo", "root.pem"},
	{"iamproxy $HOST --listen-tls self", "self-signed"},
	{"iamproxy completion fi", "fish"},
	{"iamproxy help pol", "policy"},
}

// inShell runs a script in a shell with the binary on the PATH, in a directory with a file root.pem.
func inShell(t *testing.T, script string, shell ...string) string {
	t.Helper()
	if _, err := exec.LookPath(shell[0]); err != nil {
		t.Skipf("there is no %s", shell[0])
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], script)...)
	cmd.Dir = dir
	cmd.Env = bareEnvironment("TERM=dumb", "PATH="+filepath.Dir(binaryPath(t))+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := combinedOutput(t, cmd)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// Bash completes commands, flags, their values, and files.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	script := "source <(iamproxy completion bash)\n" +
		`complete_line() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _iamproxy; echo "${COMPREPLY[*]}"; }` + "\n"
	for _, test := range completions {
		script += "complete_line " + strings.Replace(test.line, "=", " = ", 1) + "\n" // as bash splits it
	}
	lines := strings.Split(strings.TrimSpace(inShell(t, script, "bash", "-c")), "\n")
	for i, test := range completions {
		if i >= len(lines) || lines[i] != test.want {
			t.Errorf("%s: completed to %q, want %q", test.line, lines[min(i, len(lines)-1)], test.want)
		}
	}
	all := inShell(t, "source <(iamproxy completion bash)\nCOMP_WORDS=(iamproxy '') COMP_CWORD=1; _iamproxy; echo ${COMPREPLY[*]}", "bash", "-c")
	for _, command := range []string{"run", "check", "grant", "completion", "help"} {
		if !slices.Contains(strings.Fields(all), command) {
			t.Errorf("the commands are %s, without %s", all, command)
		}
	}
}

// Fish completes the same.
func TestCompletionInFish(t *testing.T) {
	t.Parallel()
	script := "source (iamproxy completion fish | psub)\n"
	for _, test := range completions {
		script += "echo (complete -C '" + strings.Replace(test.line, "$HOST", "db.example.com", 1) + "' | string split -f1 \\t)\n"
	}
	lines := strings.Split(strings.TrimSpace(inShell(t, script, "fish", "--no-config", "-c")), "\n")
	for i, test := range completions {
		want := test.want
		if flag, _, ok := strings.Cut(test.line[strings.LastIndex(test.line, " ")+1:], "="); ok {
			want = flag + "=" + want
		}
		if i >= len(lines) || lines[i] != want {
			t.Errorf("%s: completed to %q, want %q", test.line, lines[min(i, len(lines)-1)], want)
		}
	}
}

// Zsh completes the same at its prompt, in a terminal.
func TestCompletionInZsh(t *testing.T) {
	t.Parallel()
	script := `zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -u -D; source <(iamproxy completion zsh)'
zpty -w shell 'show() { zle -I; print -r -- "<$BUFFER>"; BUFFER=; }; zle -N show; bindkey "^X" show; print REA""DY' # whose echo has no READY
zpty -r shell output '*READY*'
complete_line() { # line, completed line; ^X shows it
	zpty -w -n shell $1$'\t\x18'
	zpty -r shell output "*<*>*"
	[[ $output == *"<$2"(|=| )">"* ]] && print -r -- ok || print -r -- "$1: $output"
}
`
	for _, test := range completions {
		line := strings.Replace(test.line, "$HOST", "db.example.com", 1)
		completed := line[:strings.LastIndexAny(line, " =")+1] + test.want
		script += "complete_line '" + line + "' '" + completed + "'\n"
	}
	if out := inShell(t, script+"zpty -d shell", "zsh", "-f", "-c"); strings.Count(out, "ok\n") != len(completions) {
		t.Errorf("printed %s", out)
	}
}

// The manual page is valid roff, and has each section, command and flag.
func TestManual(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), binaryPath(t), "man")
	cmd.Env = bareEnvironment()
	page, err := combinedOutput(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH IAMPROXY 1", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH ENVIRONMENT", ".SH \"EXIT STATUS\"",
		".SS \"iamproxy check ENDPOINT [flags]\"", `.B \-\-via HOST:PORT`, "IAMPROXY_CA_FILE"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %s in the page", want)
		}
	}
	for _, check := range [][]string{{"groff", "-man", "-Tutf8", "-ww", "-z"}, {"mandoc", "-Tlint", "-Werror"}} {
		if _, err := exec.LookPath(check[0]); err != nil {
			continue
		}
		cmd := exec.CommandContext(t.Context(), check[0], check[1:]...)
		cmd.Stdin = strings.NewReader(string(page))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v: %v: %s", check, err, out)
		}
	}
}
