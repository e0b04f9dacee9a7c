package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// dashboard holds the fields of the dashboard that the tests check.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []panel
	Annotations   struct{ List []struct{ Expr string } }
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ UID string }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		RefID, Expr string
		Datasource  struct{ UID string }
	}
}

func read(t *testing.T) (d dashboard, text string) {
	t.Helper()
	file, err := os.ReadFile("../grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(file)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d, string(file)
}

func TestPanels(t *testing.T) {
	d, _ := read(t)
	if d.Title != "iamproxy" || d.UID != "iamproxy" || d.SchemaVersion < 42 || len(d.Panels) < 15 {
		t.Errorf("title %q, uid %q, schema %d, %d panels", d.Title, d.UID, d.SchemaVersion, len(d.Panels))
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] {
			t.Errorf("%s: the id %d is not unique", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%s: it is outside the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s overlaps %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Title == "" || p.Description == "" || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d: no title, description or query, or a fixed data source", p.ID)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: query %s is not unique, or has a fixed data source", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
	}
}

var variable = regexp.MustCompile(`\$\{?([a-z_]+)`)

// queries matches a block of docs/metrics.md that has a query in each line.
var queries = regexp.MustCompile("(?ms)^```promql\n(.*?)^```$")

// TestQueries parses the queries of the dashboard and of the page with promtool, as rules.
func TestQueries(t *testing.T) {
	d, text := read(t)
	known := map[string]bool{"__rate_interval": true, "__all": true}
	var all []rule
	add := func(where, expr string) {
		if err := checkSelectors(expr); err != nil {
			t.Errorf("%s: %v", where, err)
		}
		all = append(all, rule{Alert: fmt.Sprint("Query", len(all)), Expr: strings.ReplaceAll(expr, "$__rate_interval", "5m")})
	}
	for _, v := range d.Templating.List {
		known[v.Name] = true
		if v.Type == "query" {
			series, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), "}, ")
			if !ok {
				t.Errorf("variable %s: %s", v.Name, v.Definition)
			}
			add("variable "+v.Name, series+"}")
		}
	}
	for _, a := range d.Annotations.List {
		add("annotation", a.Expr)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			add(p.Title, target.Expr)
		}
	}
	blocks := queries.FindAllStringSubmatch(documentation(t), -1)
	if len(blocks) == 0 {
		t.Error("docs/metrics.md has no queries")
	}
	for _, block := range blocks {
		for query := range strings.Lines(block[1]) {
			add("docs/metrics.md", query)
		}
	}
	for _, found := range variable.FindAllStringSubmatch(text, -1) {
		if !known[found[1]] {
			t.Errorf("no variable %s", found[1])
		}
	}
	rules, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queries.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := promtool(dir, "check", "rules", "queries.yaml"); err != nil {
		t.Error(err)
	}
}

// TestDashboardIsComplete requires a panel for each metric that iamproxy itself defines. A histogram is
// shown by its buckets.
func TestDashboardIsComplete(t *testing.T) {
	_, text := read(t)
	for metric := range metrics {
		if _, histogram := metrics[strings.TrimSuffix(strings.TrimSuffix(metric, "_sum"), "_count")+"_bucket"]; histogram {
			continue
		}
		if strings.HasPrefix(metric, "iamproxy_") && !strings.Contains(text, metric+"{") {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
}
