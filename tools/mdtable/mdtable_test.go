package mdtable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	old := "before\n" + begins("a writes") + "old\n" + ends + "between\n" + begins("b writes") + "old\n" + ends + "after\n"
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Replace(file, "b writes", "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	want := "before\n" + begins("a writes") + "old\n" + ends + "between\n" + begins("b writes") + "\nnew\n\n" + ends + "after\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	if err := Replace(file, "c writes", "new\n"); err == nil {
		t.Error("a page without a place was written")
	}
}

func TestTable(t *testing.T) {
	const want = "| a   | b |\n|-----|---|\n| ≥ 1 | – |\n"
	if got := Table([][]string{{"a", "b"}, {"≥ 1", "–"}}); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
