package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/iamproxy/iamproxy/tools/mdtable"
)

var update = flag.Bool("update", false, "write the commands and flags into docs/reference.md")

// furtherPages are the pages with more about a flag or a command.
var furtherPages = map[string]string{
	"allow-from": "listeners.md", "allow-user": "listeners.md", "client-ca": "listeners.md#client-certificates",
	"client-cert-user": "listeners.md#client-certificates", "listen-tls": "listeners.md", "require-tls": "listeners.md",
	"listen": "listeners.md", "socket-mode": "listeners.md", "via": "forwarding.md", "profile": "credentials.md",
	"assume-role": "credentials.md", "external-id": "credentials.md", "ca-file": "certificates.md#built-in-roots",
	"connect-timeout": "logins.md", "connect-rate": "logins.md", "target": "logins.md", "pool": "pool.md",
	"max-sessions": "running.md", "drain-min": "running.md", "drain-max": "running.md", "admin": "metrics.md",
	"exec": "exec.md", "check": "check.md", "grant": "grant.md", "policy": "policy.md", "wait": "running.md", "shutdown": "running.md",
	"completion": "install.md",
}

// docs/reference.md has the commands and flags of the program.
func TestReference(t *testing.T) {
	parser, err := newParser(&commands{}, streams{io.Discard, io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	want := reference(parser.Model)
	for name := range furtherPages {
		if !strings.Contains(want, "| `--"+name) && !strings.Contains(want, "## iamproxy "+name+"\n") {
			t.Errorf("there is no flag or command %s", name)
		}
	}
	const page = "../../docs/reference.md"
	before, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	file := page
	if !*update {
		file = filepath.Join(t.TempDir(), "reference.md")
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := mdtable.Replace(file, "go test ./cmd/iamproxy -run TestReference -update writes", want); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(before) && !*update {
		t.Error("docs/reference.md differs from the program: run this test with -update")
	}
}

// reference returns the sections of the commands.
func reference(app *kong.Application) string {
	var page strings.Builder
	for _, command := range app.Children {
		if command.Hidden {
			continue
		}
		fmt.Fprintf(&page, "## iamproxy %s\n\n%s%s\n\n", command.Name, command.Help, further(command.Name))
		var inherited []string
		var rows strings.Builder
		for _, argument := range command.Positional {
			fmt.Fprintf(&rows, "| `%s` | %s |\n", strings.ToUpper(argument.Name), argument.Help)
		}
		for _, flag := range flagsByGroup(command) {
			if command != app.DefaultCmd && slices.ContainsFunc(app.DefaultCmd.Flags, func(f *kong.Flag) bool { return f.Name == flag.Name && f.Help == flag.Help }) {
				inherited = append(inherited, "`--"+flag.Name+"`")
				continue
			}
			fmt.Fprintf(&rows, "| `%s` | %s%s |\n", usageOf(flag), flag.Help, further(flag.Name))
		}
		if rows.Len() > 0 {
			fmt.Fprintf(&page, "| flag | meaning |\n|---|---|\n%s\n", rows.String())
		}
		if inherited != nil {
			fmt.Fprintf(&page, "It also has these flags of `iamproxy run`: %s.\n\n", strings.Join(inherited, ", "))
		}
	}
	return strings.TrimSpace(page.String()) + "\n"
}

func further(name string) string {
	if page, found := furtherPages[name]; found {
		return " [More](" + page + ")."
	}
	return ""
}

// flagsByGroup returns the visible flags of a command, those of a group together.
func flagsByGroup(command *kong.Node) (flags []*kong.Flag) {
	groupOf := func(f *kong.Flag) string {
		if f.Group == nil {
			return ""
		}
		return f.Group.Key
	}
	var groups []string
	for _, flag := range command.Flags {
		if group := groupOf(flag); !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	for _, group := range groups {
		for _, flag := range command.Flags {
			if groupOf(flag) == group && !flag.Hidden {
				flags = append(flags, flag)
			}
		}
	}
	return flags
}

func usageOf(flag *kong.Flag) string {
	if flag.IsBool() {
		return "--" + flag.Name
	}
	return "--" + flag.Name + " " + flag.PlaceHolder
}
