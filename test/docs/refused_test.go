package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	own    = regexp.MustCompile(`(?ms)^## iamproxy says$(.*?)^## `)
	quoted = regexp.MustCompile("`([^`]+)`")
	verb   = regexp.MustCompile(`%[a-z]`)
)

// A message of iamproxy's that docs/refused.md quotes is one that it has. "..."
// stands for what is another each time, and so do "app", "SCRAM" and their like.
func TestRefusedQuotesWhatIsSaid(t *testing.T) {
	section := own.FindStringSubmatch(read(t, "docs/refused.md"))
	if section == nil {
		t.Fatal("docs/refused.md has no part with what iamproxy says")
	}
	said := textsOf(t, "proxy", "proxy/*", "auth")
	n := 0
	for _, title := range heading.FindAllStringSubmatch(section[1], -1) {
		for _, quote := range quoted.FindAllStringSubmatch(title[1], -1) {
			n++
			if !isSaid(quote[1], said) {
				t.Errorf("nothing in proxy or auth says %q", quote[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("%d messages: the page has more", n)
	}
}

// isSaid reports whether a quote is in a text, piece by piece.
func isSaid(quote string, said []string) bool {
	pieces := strings.Split(quote, "...")
	for _, example := range []string{"asks app for a SCRAM password"} {
		if rest, found := strings.CutPrefix(quote, example); found {
			pieces = []string{"the server asks ", " for ", rest}
		}
	}
	for _, text := range said {
		if hasInOrder(text, pieces) {
			return true
		}
	}
	return false
}

func hasInOrder(text string, pieces []string) bool {
	for _, piece := range pieces {
		_, rest, found := strings.Cut(text, strings.TrimSpace(piece))
		if !found {
			return false
		}
		text = rest
	}
	return true
}

// textsOf are the strings in the source of packages, tests left out. Those that a +
// joins are one, with what stands between them left out, as are the verbs of a
// format.
func textsOf(t *testing.T, packages ...string) (texts []string) {
	t.Helper()
	for _, dir := range packages {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(node ast.Node) bool {
				expression, ok := node.(ast.Expr)
				text := textOf(expression)
				if ok && text != "" {
					texts = append(texts, verb.ReplaceAllString(text, ""))
				}
				return text == ""
			})
		}
	}
	return texts
}

func textOf(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return textOf(e.X) + textOf(e.Y)
	default:
		return ""
	}
}
