//go:build unix

package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyWhatIsKnownToBeGoodPasses(t *testing.T) {
	good := map[string]string{"query": done, "transaction": done, "copy": hasNot, "cancel": done}
	for _, test := range []struct {
		name, step, result string
		fails              bool
	}{
		{"all as it should be", "query", done, false},
		{"COPY one way", "copy", inOnly, false},
		{"another step one way", "query", inOnly, true},
		{"an error", "cancel", "canceled nothing", true},
		{"an error that looks well", "cancel", "ok, but late", true},
		{"nothing", "cancel", "", true},
	} {
		results := maps.Clone(good)
		results[test.step] = test.result
		r := judge(report{Driver: "d", Version: "1", Runtime: "r", Steps: results})
		if fails := len(r.failures) > 0; fails != test.fails {
			t.Errorf("%s: %v", test.name, r.failures)
		}
		if failed := strings.Contains(table([]row{r}), "FAILED"); failed != test.fails {
			t.Errorf("%s: the table has it wrong:\n%s", test.name, table([]row{r}))
		}
	}
	if r := judge(report{Driver: "d", Runtime: "r", Steps: good}); len(r.failures) == 0 {
		t.Error("no version, and no failure")
	}
}

// What cannot run at all is a failure, with the reason.
func TestProgramThatFails(t *testing.T) {
	t.Chdir("../..")
	for name, command := range map[string][]string{
		"exit status 3: no driver": {"sh", "-c", "echo no driver >&2; exit 3"},
		"printed no report":        {"echo", "hello"},
		"not found":                {"no-such-program"},
	} {
		_, err := runProgram(t.Context(), driver{"d", ".", command}, way{})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v, want %q", command, err, name)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + tableBegins + "old\n" + tableEnds + "after\n")
	if err := replaceTable(page, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(page)
	if want := "before\n" + tableBegins + "\nnew\n\n" + tableEnds + "after\n"; err != nil || string(got) != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	write("no place\n" + tableEnds + tableBegins)
	if err := replaceTable(page, "new\n"); err == nil {
		t.Error("a page without a place for the table was written")
	}
}
