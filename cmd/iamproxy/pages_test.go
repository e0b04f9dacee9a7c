//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// Every command of iamproxy's that a page shows is one that it takes.
func TestCommandsOfThePages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range shownArguments(t, string(text)) {
			n++
			if err := accepts(args); err != nil {
				t.Errorf("%s: %q: %v", filepath.Base(page), args, err)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands: there are more", n)
	}
}

func TestShownCommands(t *testing.T) {
	page := "```sh\nbin/iamproxy a \\\n  b 'c&d' 2>log &\nx \"$(iamproxy policy $E)\"\nsudo echo iamproxy\n  PGPASSWORD=... iamproxy grant c\n```\n" +
		"```\niamproxy: not a command\n```\n`iamproxy check` is one without its arguments\n"
	want := []string{"a    b 'c&d' 2>log", "policy $E", "grant c"}
	if got := shownCommands(page); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", got, want)
	}
}

// shownArguments are those of every command of a page, in blocks of shell and in the
// lists of task definitions and manifests.
func shownArguments(t *testing.T, page string) (all [][]string) {
	t.Helper()
	for _, command := range shownCommands(page) {
		all = append(all, arguments(t, command))
	}
	for _, list := range shownList.FindAllString(page, -1) {
		var args []string
		if err := json.Unmarshal([]byte(list), &args); err != nil {
			t.Errorf("%s: %v", list, err)
		}
		all = append(all, args)
	}
	return all
}

var (
	shownList     = regexp.MustCompile(`\[\s*"(?:grant|check|policy)",[^\]]*\]`)
	anyShellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
	shownCommand  = regexp.MustCompile(`(?m)^ *(?:[A-Z]+=\S+ )?(?:[a-z./]*/)?iamproxy ((?:'[^'\n]*'|[^'\n&])*)|\$\(iamproxy ([^)]*)\)`)
)

// shownCommands are what stands behind iamproxy in a page's blocks of shell.
func shownCommands(page string) (commands []string) {
	for _, block := range anyShellBlock.FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(block[1], "\\\n", " ")
		for _, found := range shownCommand.FindAllStringSubmatch(text, -1) {
			commands = append(commands, strings.TrimSpace(found[1]+found[2]))
		}
	}
	return commands
}

// arguments has the shell read a command's arguments. What a page leaves open is the
// reader's: ENDPOINT, above all.
func arguments(t *testing.T, command string) (args []string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", "list() { for arg; do printf '%s\\0' \"$arg\"; done >&3; }; list "+command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ENDPOINT=" + standin.DefaultHost}
	cmd.Dir = t.TempDir() // some have their log in a file
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.ExtraFiles = []*os.File{write}
	out, err := cmd.CombinedOutput()
	write.Close()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	list, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range bytes.Split(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		if string(arg) == "ENDPOINT" {
			arg = []byte(standin.DefaultHost)
		}
		args = append(args, string(arg))
	}
	return args
}

// accepts tells what is wrong with a command line, without running it.
func accepts(args []string) error {
	shown := &commands{}
	parser, err := newParser(shown, streams{io.Discard, io.Discard})
	if err != nil {
		return err
	}
	if _, err := parser.Parse(args); err != nil {
		return err
	}
	// A command that there is not would be an endpoint of run's.
	endpoints := shown.Run.Endpoints
	for _, arg := range args {
		if databaseName.MatchString(arg) {
			endpoints = append(endpoints, arg)
		}
	}
	for _, name := range endpoints {
		if _, err := parseEndpoint(name); err != nil {
			return err
		}
	}
	return nil
}

var databaseName = regexp.MustCompile(`^[a-z0-9.-]+\.(amazonaws\.com|on\.aws)(\?|$)`)
