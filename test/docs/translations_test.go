package docs

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// x.ja.md is x.md in Japanese, with the same code, headings, anchors, tables, links
// and figures, section by section. The sentences are compared by people.
func TestTranslations(t *testing.T) {
	all := pages(t)
	translated := slices.DeleteFunc(slices.Clone(all), func(page string) bool { return original(page) == page })
	if len(translated) < 2 {
		t.Errorf("only %q are translated", translated)
	}
	for _, page := range translated {
		for _, problem := range differences(contentOf(t, original(page)), contentOf(t, page)) {
			t.Errorf("%s: %s", page, problem)
		}
		for _, problem := range strays(t, page, all) {
			t.Errorf("%s: %s", page, problem)
		}
		checkSwitch(t, original(page), "[日本語]("+path.Base(page)+")\n")
		checkSwitch(t, page, "[English]("+path.Base(original(page))+")\n")
	}
}

// original returns the page that this one translates, or the page itself.
func original(page string) string {
	if name, found := strings.CutSuffix(page, ".ja.md"); found {
		return name + ".md"
	}
	return page
}

func checkSwitch(t *testing.T, page, line string) {
	t.Helper()
	if !strings.HasPrefix(read(t, page), line) {
		t.Errorf("%s: does not begin with %q", page, line)
	}
}

// strays returns the links of a translation that needlessly lead to another language.
func strays(t *testing.T, page string, pages []string) (problems []string) {
	t.Helper()
	for _, link := range linksOf(read(t, page)) {
		file, _, _ := strings.Cut(link, "#")
		target := path.Join(path.Dir(page), file)
		ours := strings.TrimSuffix(target, ".md") + ".ja.md"
		if target != original(page) && slices.Contains(pages, ours) {
			problems = append(problems, fmt.Sprintf("%s: there is %s", link, ours))
		}
	}
	return problems
}

// content holds what a page and its translation have in common.
type content struct {
	blocks   []string // of code
	sections []section
}

// section holds a heading and the text before the next one. The first section is the text
// before any heading.
type section struct {
	title   string
	level   int
	anchors []string // besides those of headings
	pieces  int      // paragraphs, items of lists, and tables
	tables  []int    // the cells of each row of a table
	links   []string
	code    []string
	figures []string
}

var (
	anyBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```$|(?:^ {4}[^\n]+\n)+")
	anyCode  = regexp.MustCompile("`[^`]+`")
	title    = regexp.MustCompile(`(?m)^(#{1,6}) (.*)$`)
	piece    = regexp.MustCompile(`\n\n+(?:- |\d+\. )?|\n(?:- |\d+\. )`)
	row      = regexp.MustCompile(`(?m)^\|.*\|$`)
	anchorID = regexp.MustCompile(`<a id="[^"]+">`)
	figure   = regexp.MustCompile(`\d+(?:\.\d+)?`)
)

func contentOf(t *testing.T, page string) content {
	t.Helper()
	return parse(read(t, page), func(link string) string { return resolve(t, page, link) })
}

// resolve returns the target of a link independent of the language: the original page, and
// the position of the heading.
func resolve(t *testing.T, page, link string) string {
	t.Helper()
	if strings.Contains(link, ":") {
		return strings.Replace(link, "/ja_jp/", "/", 1)
	}
	file, anchor, found := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = path.Join(path.Dir(page), file)
	}
	if !found {
		return original(target)
	}
	return fmt.Sprintf("%s, heading %d", original(target), slices.Index(anchorsOf(read(t, target)), anchor)+1)
}

func parse(text string, resolve func(string) string) content {
	c := content{blocks: anyBlock.FindAllString(text, -1)}
	text = anyBlock.ReplaceAllString(text, "")
	start := section{title: "the beginning"}
	from := 0
	for _, at := range title.FindAllStringSubmatchIndex(text, -1) {
		c.sections = append(c.sections, start.with(text[from:at[0]], resolve))
		start = section{title: text[at[4]:at[5]], level: at[3] - at[2]}
		from = at[4] // the heading's own text counts
	}
	c.sections = append(c.sections, start.with(text[from:], resolve))
	return c
}

func (s section) with(text string, resolve func(string) string) section {
	s.pieces = len(piece.FindAllString(strings.TrimSpace(text), -1))
	s.anchors = anchorID.FindAllString(text, -1)
	for _, code := range anyCode.FindAllString(text, -1) {
		s.code = append(s.code, strings.Join(strings.Fields(code), " "))
	}
	prose := anyCode.ReplaceAllString(text, "")
	for _, found := range row.FindAllString(prose, -1) {
		s.tables = append(s.tables, strings.Count(found, "|")-1)
	}
	for _, found := range link.FindAllStringSubmatch(prose, -1) {
		s.links = append(s.links, resolve(found[1]))
	}
	s.figures = figure.FindAllString(link.ReplaceAllString(prose, "]"), -1)
	return s
}

// differences returns what a translation lacks or adds, and where.
func differences(page, translation content) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for i := range max(len(page.blocks), len(translation.blocks)) {
		if want, got := at(page.blocks, i), at(translation.blocks, i); want != got {
			problem("code block %d: %q, want %q", i+1, got, want)
			break // the others may only have moved
		}
	}
	for i := range max(len(page.sections), len(translation.sections)) {
		want, got := at(page.sections, i), at(translation.sections, i)
		where := fmt.Sprintf("%q (%q)", got.title, want.title)
		if want.level != got.level {
			problem("heading %d, %s: level %d, want %d", i, where, got.level, want.level)
			break
		}
		if want.pieces != got.pieces {
			problem("%s: %d paragraphs and items, want %d", where, got.pieces, want.pieces)
		}
		if !slices.Equal(want.tables, got.tables) {
			problem("%s: the tables have rows of %d cells, want %d", where, got.tables, want.tables)
		}
		for _, x := range []struct {
			what      string
			want, got []string
		}{{"link to", want.links, got.links}, {"code", want.code, got.code}, {"anchor", want.anchors, got.anchors}} {
			for _, lost := range without(x.want, x.got) {
				problem("%s: lacks the %s %s", where, x.what, lost)
			}
			for _, added := range without(x.got, x.want) {
				problem("%s: has the %s %s, which the page has not", where, x.what, added)
			}
		}
		for _, lost := range without(want.figures, got.figures) { // Japanese has some more, for words
			problem("%s: lacks the figure %s", where, lost)
		}
	}
	return problems
}

func at[T any](list []T, i int) (element T) {
	if i < len(list) {
		element = list[i]
	}
	return element
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

func TestDifferences(t *testing.T) {
	page := "# A\n\nB `c` [d](e.md) in 15 minutes.\n\n<a id=\"o\"></a>\n\n    make f\n\n```sh\ng\n```\n\n## H\n\n- i\n- j\n\n| k | l |\n|---|---|\n| m | n |\n"
	for _, test := range []struct{ name, old, new, want string }{
		{"the same", "B", "あ", ""},
		{"more figures", "B", "3 つ", ""},
		{"indented block", "make f", "make x", `code block 1: "    make x\n", want "    make f\n"`},
		{"fenced block", "g\n", "x\n", "code block 2: \"```sh\\nx\\n```\", want \"```sh\\ng\\n```\""},
		{"level", "## H", "### H", `heading 2, "H" ("H"): level 3, want 2`},
		{"heading", "## H\n\n", "", `heading 2, "" ("H"): level 0, want 2`},
		{"item", "- j\n", "", `"H" ("H"): 2 paragraphs and items, want 3`},
		{"row", "| m | n |\n", "", `"H" ("H"): the tables have rows of [2 2] cells, want [2 2 2]`},
		{"link", "e.md", "x.md", `"A" ("A"): lacks the link to e.md`},
		{"code", "`c`", "c", "\"A\" (\"A\"): lacks the code `c`"},
		{"anchor", `<a id="o">`, "<a>", `"A" ("A"): lacks the anchor <a id="o">`},
		{"figure", "15", "20", `"A" ("A"): lacks the figure 15`},
	} {
		t.Run(test.name, func(t *testing.T) {
			same := func(link string) string { return link }
			got := strings.Join(differences(parse(page, same), parse(strings.Replace(page, test.old, test.new, 1), same)), "\n")
			if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
