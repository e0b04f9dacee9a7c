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
	for dir, from := range map[string]string{"kubernetes": "../inject", "kyverno": "../kyverno"} {
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

// The chart renders the objects of ../inject or ../kyverno, and its value replaces the image.
func TestInjectChart(t *testing.T) {
	t.Parallel()
	const other = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3"
	for engine, dir := range map[string]string{"kubernetes": "../inject", "kyverno": "../kyverno"} {
		objects, notes, err := render(inject, map[string]any{"engine": engine})
		if err != nil {
			t.Fatal(err)
		}
		got, want := byName(t, objects), byName(t, mustBuild(t, dir))
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
		values := map[string]any{"engine": engine, "image": other}
		if err := lintChart(inject, values); err != nil {
			t.Error(err)
		}
		if objects, _, err = render(inject, values); err != nil {
			t.Fatal(err)
		}
		if text := toYAML(t, byName(t, objects)); !strings.Contains(text, other) || strings.Contains(text, "ghcr.io/") {
			t.Errorf("without the image %s:\n%s", other, text)
		}
	}
}

// The chart refuses values that cannot work, with the reason.
func TestInjectChartRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values  map[string]any
		version string // of Kubernetes
		want    string
	}{
		{map[string]any{"image": "it's"}, "v1.36.0", "at '/image'"},
		{map[string]any{"engine": "opa"}, "v1.36.0", "at '/engine'"},
		{nil, "v1.35.4", "Kubernetes v1.35.4 has no MutatingAdmissionPolicy, which begins with 1.36: install Kyverno and set engine=kyverno"},
	} {
		if _, _, err := renderFor(test.version, inject, test.values); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v for %s: got %v, want %q in it", test.values, test.version, err, test.want)
		}
	}
	if _, _, err := renderFor("v1.30.0", inject, map[string]any{"engine": "kyverno"}); err != nil {
		t.Error(err)
	}
}
