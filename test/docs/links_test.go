// Package docs tests the pages.
package docs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// Every relative link of a page leads to an existing file, and its anchor to a heading.
// Links to other sites are not tested.
func TestLinks(t *testing.T) {
	all := pages(t)
	if len(all) < 20 {
		t.Fatalf("%d pages: these are not all", len(all))
	}
	for _, page := range all {
		for _, link := range linksOf(read(t, page)) {
			if problem := follow(t, page, link); problem != "" {
				t.Errorf("%s: %s: %s", page, link, problem)
			}
		}
	}
}

func follow(t *testing.T, page, link string) (problem string) {
	t.Helper()
	file, anchor, _ := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = path.Join(path.Dir(page), file)
	}
	if _, err := os.Stat(filepath.Join(root, target)); err != nil {
		return "there is no such file"
	}
	if anchor != "" && strings.HasSuffix(target, ".md") && !slices.Contains(anchorsOf(read(t, target)), anchor) {
		return "there is no such heading"
	}
	return ""
}

func TestAnchors(t *testing.T) {
	page := "# Of `a_b`, and more: \"c\"\n## Twice\n```\n# no heading\n```\n## Twice\n## [Linked](x.md) 200 a second\n"
	want := []string{"of-a_b-and-more-c", "twice", "twice-1", "linked-200-a-second"}
	if got := anchorsOf(page); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLinksOf(t *testing.T) {
	page := "[a](b.md) ![c](d.svg) [e](https://f) [`g`](h.md#i)\n```\n[j](k)\n```\n`[l](m)` [n](#o)\n"
	if got, want := linksOf(page), []string{"b.md", "d.svg", "h.md#i", "#o"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

var (
	block    = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code     = regexp.MustCompile("`[^`\n]*`")
	heading  = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// linksOf returns the targets of a page's links within the project.
func linksOf(text string) (links []string) {
	text = code.ReplaceAllString(block.ReplaceAllString(text, ""), "")
	for _, found := range link.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(found[1], ":") {
			links = append(links, found[1])
		}
	}
	return links
}

// anchorsOf returns the anchors of a page's headings, as GitHub names them.
func anchorsOf(text string) (anchors []string) {
	times := make(map[string]string)
	for _, found := range heading.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		name := strings.Map(anchorRune, strings.ToLower(linkText.ReplaceAllString(found[1], "$1")))
		anchors = append(anchors, name+times[name])
		times[name] += "-1" // no page has a heading three times
	}
	return anchors
}

func anchorRune(r rune) rune {
	switch {
	case r == ' ':
		return '-'
	case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
		return r
	default:
		return -1
	}
}

// pages returns the project's pages, with paths from the project's directory.
func pages(t *testing.T) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", "build", "dist"}, entry.Name()):
			return fs.SkipDir
		case strings.HasSuffix(file, ".md"):
			files = append(files, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var jsonBlock = regexp.MustCompile("(?ms)^ *```json\n(.*?)^ *```$")

// Blocks of JSON are valid: documents, lines of a log, or members of an object.
func TestJSON(t *testing.T) {
	for _, page := range pages(t) {
		for _, found := range jsonBlock.FindAllStringSubmatch(read(t, page), -1) {
			text := strings.TrimSpace(found[1])
			if strings.HasPrefix(text, `"`) {
				text = "{" + text + "}"
			}
			for documents := json.NewDecoder(strings.NewReader(text)); documents.More(); {
				if err := documents.Decode(new(any)); err != nil {
					t.Errorf("%s: %v: %s", page, err, text)
					break
				}
			}
		}
	}
}

var healthCheck = regexp.MustCompile(`"healthCheck": (\{[^}]*\})`)

// TestHealthCheck compares the health check of the ECS container in all files that have it, but for
// docs/ecs-options.md, which has another one.
func TestHealthCheck(t *testing.T) {
	required := []string{"deploy/ecs/task-definition.json", "deploy/ecs/task-definition-bridge.json", "deploy/ecs/task-definition-firelens.json", "docs/ecs.md"}
	want := ""
	for _, file := range append(required, pages(t)...) {
		found := healthCheck.FindStringSubmatch(read(t, file))
		if file == "docs/ecs-options.md" {
			continue
		}
		if found == nil {
			if slices.Contains(required, file) {
				t.Errorf("%s has no health check", file)
			}
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(found[1])); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if want = cmp.Or(want, compact.String()); compact.String() != want {
			t.Errorf("%s: %s, want %s", file, compact.String(), want)
		}
	}
}
