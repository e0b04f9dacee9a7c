package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

const charts = "../../../helm"

// values are the required values of each chart.
var values = map[string]map[string]any{
	"iamproxy":        {"endpoint": "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com", "allowFrom": []any{"10.0.0.0/16"}},
	"iamproxy-inject": {},
}

// A package has the version, and its pods have the image of that version.
func TestVersion(t *testing.T) {
	dist := t.TempDir()
	if err := run(charts, dist, "2.0.0-rc.1", "v2.0.0-rc.1", time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for name, set := range values {
		c, err := loader.LoadFile(filepath.Join(dist, name+"-2.0.0-rc.1.tgz"))
		if err != nil {
			t.Fatal(err)
		}
		capabilities := common.DefaultCapabilities.Copy()
		capabilities.KubeVersion = common.KubeVersion{Version: "v1.36.0", Major: "1", Minor: "36"}
		all, err := util.ToRenderValues(c, set, common.ReleaseOptions{Name: "iamproxy", Namespace: "app"}, capabilities)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := engine.Render(c, all)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, file := range rendered {
			text.WriteString(file)
		}
		if !strings.Contains(text.String(), "ghcr.io/iamproxy/iamproxy:v2.0.0-rc.1") || strings.Contains(text.String(), "1.2.3") {
			t.Errorf("%s:\n%s", name, &text)
		}
	}
}

// Packages depend neither on the directory nor on the times of its files.
func TestReproducible(t *testing.T) {
	once, again, clone := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "clone")
	if err := os.CopyFS(clone, os.DirFS(charts)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{charts: once, clone: again} {
		if err := run(from, to, "1.2.3", "v1.2.3", time.Unix(1_700_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for name := range values {
		file := name + "-1.2.3.tgz"
		first, err := os.ReadFile(filepath.Join(once, file))
		if err != nil {
			t.Fatal(err)
		}
		if second, err := os.ReadFile(filepath.Join(again, file)); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s differs: %v", file, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, args := range [][4]string{
		{charts, "", "1.2.3", "v1.2.3"},
		{charts, t.TempDir(), "", "v1.2.3"},
		{charts, t.TempDir(), "1.2.3", ""},
		{charts, t.TempDir(), "one", "v1.2.3"},
		{t.TempDir(), t.TempDir(), "1.2.3", "v1.2.3"},
	} {
		if err := run(args[0], args[1], args[2], args[3], time.Unix(1, 0)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
