package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	ownMessages = regexp.MustCompile(`(?ms)^## Errors from iamproxy$(.*?)^## `)
	quoted      = regexp.MustCompile("`([^`]+)`")
	literal     = regexp.MustCompile("\"(?:[^\"\\\\\n]|\\\\.)+\"|`[^`\n]+`")
)

// examples replaces the values in quotes for which messages have a verb.
var examples = strings.NewReplacer("app", "...", "SCRAM", "...")

// The headings of docs/refused.md quote messages of iamproxy. In a quote, "..." stands for
// any text.
func TestRefusedQuotesMessages(t *testing.T) {
	section := ownMessages.FindStringSubmatch(read(t, "docs/refused.md"))
	if section == nil {
		t.Fatal("docs/refused.md has no section about iamproxy's messages")
	}
	var messages []string
	for _, dir := range []string{"proxy", "proxy/pgwire", "proxy/retry", "auth"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range literal.FindAllString(string(source), -1) {
				if message, err := strconv.Unquote(text); err == nil {
					messages = append(messages, message)
				}
			}
		}
	}
	n := 0
	for _, title := range heading.FindAllStringSubmatch(section[1], -1) {
		for _, quote := range quoted.FindAllStringSubmatch(title[1], -1) {
			n++
			pieces := strings.Split(examples.Replace(quote[1]), "...")
			if !slices.ContainsFunc(messages, func(message string) bool { return containsInOrder(message, pieces) }) {
				t.Errorf("no message contains %q", quote[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d quotes: the page has more", n)
	}
}

func containsInOrder(text string, pieces []string) bool {
	for _, piece := range pieces {
		_, after, found := strings.Cut(text, strings.TrimSpace(piece))
		if !found {
			return false
		}
		text = after
	}
	return true
}
