//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/internal/cli"
	"github.com/iamproxy/iamproxy/test/aurora"
)

// The commands in the documentation are valid.
func TestDocumentedCommands(t *testing.T) {
	n := 0
	for page, text := range pages(t) {
		for _, args := range shownArguments(t, text) {
			n++
			if err := accepts(t.Context(), args); err != nil {
				t.Errorf("%s: %q: %v", page, args, err)
			}
		}
	}
	if n < 45 {
		t.Errorf("only %d commands found", n)
	}
}

// The variables and flags in the documentation exist.
func TestDocumentedNames(t *testing.T) {
	parser, err := newParser(&commands{}, streams{io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{
		// Flags of other programs.
		"--apply-immediately": true, "--default-ulimit": true, "--db-instance-identifier": true, "--enable-execute-command": true, "--launch-type": true,
		"--manage-master-user-password": true, "--network": true, "--network-configuration": true, "--set": true, "--stop-timeout": true, "--ulimit": true,
	}
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		switch node := node.(type) {
		case *kong.Flag:
			known["--"+node.Name] = true
			for _, name := range node.Envs {
				known[name] = true
			}
		case *kong.Value:
			for _, name := range node.Tag.Envs {
				known[name] = true
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for page, text := range pages(t) {
		for _, name := range shownName.FindAllString(text, -1) {
			if name = strings.Trim(name, "`"); !known[name] && !cli.IsKubernetesLink(name+"=127.0.0.1") {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
	}
}

// shownName matches a variable anywhere, and a flag at the beginning of inline code.
var shownName = regexp.MustCompile("IAMPROXY_[A-Z_]*[A-Z]|`--[a-z][a-z-]*")

// pages returns the texts of the documentation by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, pattern := range []string{"README*.md", "docs/*.md", "deploy/*.md", "deploy/*/*.md", "deploy/ecs/*.json"} {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.ToSlash(file[len("../../"):])] = string(text)
		}
	}
	return texts
}

func TestShownCommands(t *testing.T) {
	page := "```sh\nbin/iamproxy a \\\n  b 'c&d' 2>log &\nx \"$(iamproxy policy $E)\"\nsudo echo iamproxy\n  PGPASSWORD=... iamproxy grant c\n```\n" +
		"```\niamproxy: not a command\n```\n`iamproxy check` is one without its arguments\n"
	page += "| an instance | `'HOST?via=ssm://i-0'` |\n"
	want := []string{"a    b 'c&d' 2>log", "policy $E", "grant c", "'ENDPOINT?via=ssm://i-0'"}
	if got := shownCommands(page); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", got, want)
	}
}

// shownArguments returns the arguments of each command on a page: in blocks of shell, and in the
// lists of task definitions and manifests.
func shownArguments(t *testing.T, page string) (all [][]string) {
	t.Helper()
	for _, command := range shownCommands(page) {
		all = append(all, arguments(t, command))
	}
	for _, list := range shownList.FindAllString(page, -1) {
		var args []string
		list = listVariables.Replace(list)
		if err := json.Unmarshal([]byte(list), &args); err != nil {
			t.Errorf("%s: %v", list, err)
		}
		if i := slices.Index(args, "/iamproxy"); i >= 0 {
			args = args[i+1:] // of a probe
		}
		all = append(all, args)
	}
	return all
}

// listVariables replaces the variables of lists: those of JSON in quotes of the shell, and those of
// manifests.
var listVariables = strings.NewReplacer("'$ENDPOINT'", aurora.DefaultHost, "$(ENDPOINT)", aurora.DefaultHost,
	"$(GRANT_TO)", "app", "$(DATABASE)", "mydb", "$(PRIVILEGES)", "readwrite")

var (
	shownList     = regexp.MustCompile(`\[\s*(?:"CMD",\s*)?"(?:/iamproxy|grant|check|policy|[a-z0-9.-]+\.rds\.amazonaws\.com[^"]*)"[^\]]*\]`)
	anyShellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")
	shownCommand  = regexp.MustCompile(`(?m)^ *(?:[A-Z]+=\S+ )?(?:[a-z./]*/)?iamproxy ((?:'[^'\n]*'|[^'\n&|])*)|\$\((?:bin/)?iamproxy ([^)]*)\)`)
	shownEndpoint = regexp.MustCompile("`('HOST\\?[^`]*'|HOST --[^`]*)`") // alone, as in a table
)

// shownCommands returns the text after iamproxy in blocks of shell, and the endpoints written as
// HOST.
func shownCommands(page string) (commands []string) {
	for _, block := range anyShellBlock.FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(block[1], "\\\n", " ")
		for _, found := range shownCommand.FindAllStringSubmatch(text, -1) {
			commands = append(commands, strings.TrimSpace(found[1]+found[2]))
		}
	}
	for _, found := range shownEndpoint.FindAllStringSubmatch(page, -1) {
		commands = append(commands, strings.Replace(found[1], "HOST", "ENDPOINT", 1))
	}
	return commands
}

// arguments parses the arguments of a command with the shell. ENDPOINT stands for an endpoint of
// the reader.
func arguments(t *testing.T, command string) (args []string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", "list() { for arg; do printf '%s\\0' \"$arg\"; done >&3; }; list "+command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ENDPOINT=" + aurora.DefaultHost}
	cmd.Dir = t.TempDir() // some commands write a log
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
		text := string(arg)
		if rest, ok := strings.CutPrefix(text, "ENDPOINT"); ok {
			text = aurora.DefaultHost + rest
		}
		args = append(args, text)
	}
	return args
}

// accepts returns what is wrong with a command line, without running it.
func accepts(ctx context.Context, args []string) error {
	shown := &commands{}
	parser, err := newParser(shown, streams{io.Discard, io.Discard})
	if err != nil {
		return err
	}
	args, shown.Exec.words = cutCommand(args)
	parsed, err := parser.Parse(args)
	if err != nil {
		return err
	}
	for _, endpoints := range []*[]string{&shown.Run.Endpoints, &shown.Exec.Endpoints} {
		if len(*endpoints) == 0 { // they are in the environment
			*endpoints = []string{aurora.DefaultHost}
		}
	}
	if c, ok := parsed.Selected().Target.Addr().Interface().(validator); ok {
		return c.Validate(ctx)
	}
	return nil
}
