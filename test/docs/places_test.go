package docs

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

var (
	placeComment = regexp.MustCompile(`(?m)^<!-- (.+) from here -->$`)
	placeLiteral = regexp.MustCompile(`"((?:make|go test) [^"\n]* writes[^"\n]*)"`)
)

// Each program that writes results has a place for them in a page, and each place has a program. A
// program would find out only at the end of its run.
func TestPlaces(t *testing.T) {
	places := make(map[string]bool) // whether a program writes there
	for _, page := range pages(t) {
		text := read(t, page)
		for _, place := range placeComment.FindAllStringSubmatch(text, -1) {
			places[place[1]] = false
		}
		if begin, end := len(placeComment.FindAllString(text, -1)), strings.Count(text, "<!-- to here -->\n"); begin != end {
			t.Errorf("%s: %d places begin, and %d end", page, begin, end)
		}
	}
	if len(places) == 0 {
		t.Error("the pages have no places")
	}
	for _, dir := range []string{"cmd", "test"} {
		err := fs.WalkDir(os.DirFS(root), dir, func(file string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.Name() == "node_modules":
				return fs.SkipDir
			case path.Ext(file) != ".go":
				return nil
			}
			for _, place := range placeLiteral.FindAllStringSubmatch(read(t, file), -1) {
				if _, found := places[place[1]]; !found {
					t.Errorf("%s: no page has a place for %q", file, place[1])
				}
				places[place[1]] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for place, written := range places {
		if !written {
			t.Errorf("no program writes to %q", place)
		}
	}
}
