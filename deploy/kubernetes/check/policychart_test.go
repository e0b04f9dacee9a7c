package check

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// inject is the chart of the policies.
const inject = chartDir("iamproxy-inject")

// The chart contains the policies of ../inject. This file is after those of the tests that write
// the policies, so that -update copies what they write.
func TestInjectChartIsCurrent(t *testing.T) {
	for dir, from := range map[string]string{"kubernetes": "../inject"} {
		files, err := filepath.Glob(from + "/*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, file := range files {
			name := filepath.Base(file)
			if name == "kustomization.yaml" {
				continue
			}
			n++
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(inject.path(), "files", dir, name)
			if *update {
				if err := os.WriteFile(to, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is out of date (%v): run go test -run TestInject -update", to, err)
			}
		}
		copies, err := filepath.Glob(filepath.Join(inject.path(), "files", dir, "*"))
		if err != nil || len(copies) != n || n == 0 {
			t.Errorf("the chart has %q, want %d files of %s (%v)", copies, n, from, err)
		}
	}
}

// The chart renders the objects of ../inject, and its value replaces the image.
func TestInjectChart(t *testing.T) {
	t.Parallel()
	objects, notes, err := render(inject, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, want := byName(t, objects), byName(t, mustBuild(t, "../inject"))
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s is\n%s\nwant\n%s", name, toYAML(t, got[name]), toYAML(t, want[name]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d objects, want %d", len(got), len(want))
	}
	if !strings.Contains(notes, "create configmap iamproxy-inject") || !strings.Contains(notes, "label namespace app iamproxy.github.io/inject=enabled") {
		t.Errorf("the notes are %s", notes)
	}
	if err := lintChart(inject, nil); err != nil {
		t.Error(err)
	}
	const other = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3"
	if objects, _, err = render(inject, map[string]any{"image": other}); err != nil {
		t.Fatal(err)
	}
	if text := toYAML(t, byName(t, objects)); strings.Count(text, other) != 1 || strings.Contains(text, "ghcr.io/") {
		t.Errorf("without the image %s:\n%s", other, text)
	}
	if _, _, err := render(inject, map[string]any{"image": "it's"}); err == nil || !strings.Contains(err.Error(), "at '/image'") {
		t.Errorf("a wrong image: %v", err)
	}
}
