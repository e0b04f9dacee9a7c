package docs

import (
	"slices"
	"strings"
	"testing"
)

// longPages may have any length: they are for lookup.
var longPages = []string{"docs/reference.md", "docs/refused.md", "CHANGELOG.md"}

// A page has at most 1,500 words, and the README at most 900 before its links.
func TestPageLengths(t *testing.T) {
	for _, page := range pages(t) {
		text, limit := read(t, page), 1500
		switch {
		case slices.Contains(longPages, page) || original(page) != page:
			continue
		case page == "README.md":
			text, _, _ = strings.Cut(text, "\n## Documentation\n")
			limit = 900
		}
		if words := len(strings.Fields(text)); words > limit {
			t.Errorf("%s has %d words, want at most %d", page, words, limit)
		}
	}
}
