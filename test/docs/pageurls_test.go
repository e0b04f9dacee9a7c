package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/text"
)

var pageURL = regexp.MustCompile(`text\.PageURL\("([^"]*)"\)`)

// TestPageURLs verifies that each page exists that a message of the program links to.
func TestPageURLs(t *testing.T) {
	found := 0
	for _, dir := range []string{"auth", "cmd", "internal", "proxy"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, match := range pageURL.FindAllStringSubmatch(string(content), -1) {
				found++
				if _, err := os.Stat(filepath.Join(root, "docs", match[1])); err != nil {
					t.Errorf("%s links to %s: %v", path, text.PageURL(match[1]), err)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no links found")
	}
}
