// Package check tests deploy/prometheus with promtool: the metrics, the alerts, whether
// alerts_test.yaml notices a mistake in one, the scrape configuration and the dashboard.
package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// page has every metric that iamproxy itself defines: package admin compares it with what it serves.
const page = "../../../internal/admin/testdata/metrics.txt"

// metrics are the series that a query may select, with their own labels.
var metrics = map[string]string{
	"up":                            "",
	"ALERTS":                        "alertname alertstate",
	"go_goroutines":                 "",
	"process_cpu_seconds_total":     "",
	"process_resident_memory_bytes": "",
}

func TestMain(m *testing.M) {
	text, err := os.ReadFile(page)
	if err != nil {
		panic(err)
	}
	for _, sample := range regexp.MustCompile(`(?m)^(\w+)(?:{(.*)})? [^ ]+$`).FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, label := range matcher.FindAllStringSubmatch(sample[2], -1) {
			labels = append(labels, label[1])
		}
		metrics[sample[1]] = strings.Join(labels, " ")
	}
	m.Run()
}

// targetLabels are added by the scrape configuration.
const targetLabels = "job namespace instance"

// values are those of labels with a fixed set of values.
var values = map[string]string{
	"phase":     "queue resolve dial tls login",
	"result":    "ok failed rejected abandoned delivered repeated",
	"direction": "up down",
	"state":     "idle in_use resetting",
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	name     = regexp.MustCompile(`\b(iamproxy|process|go)_[a-z_]+\b`)
	quoted   = regexp.MustCompile(`"[^"]*"`) // values of labels, which may look like metrics
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// checkSelectors returns an error if an expression selects a metric, label or value that does
// not exist.
func checkSelectors(expr string) error {
	for _, metric := range name.FindAllString(quoted.ReplaceAllLiteralString(expr, `""`), -1) {
		if _, ok := metrics[metric]; !ok {
			return fmt.Errorf("no metric %s", metric)
		}
	}
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		labels, ok := metrics[found[1]]
		if !ok {
			return fmt.Errorf("no metric %s", found[1])
		}
		for _, match := range matcher.FindAllStringSubmatch(found[2], -1) {
			label, operator, value := match[1], match[2], match[3]
			if !word(labels+" "+targetLabels, label) {
				return fmt.Errorf("%s has no label %s", found[1], label)
			}
			if known, ok := values[label]; ok && (operator == "=" || operator == "!=") && !word(known, value) {
				return fmt.Errorf("%s is never %q", label, value)
			}
		}
	}
	return nil
}

func word(all, one string) bool {
	for _, w := range strings.Fields(all) {
		if w == one {
			return true
		}
	}
	return false
}

type rule struct {
	Alert, Expr         string
	For                 string `yaml:",omitempty"`
	Labels, Annotations map[string]string
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

func alerts(t *testing.T) rules {
	t.Helper()
	text, err := os.ReadFile("../alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all rules
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// documentation returns docs/metrics.md.
func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documented matches a row of the table in docs/metrics.md.
var documented = regexp.MustCompile("(?m)^\\| `(iamproxy_[a-z_]+)` \\|([^|]*)\\|")

func TestMetricsAreDocumented(t *testing.T) {
	found := map[string]bool{}
	for _, row := range documented.FindAllStringSubmatch(documentation(t), -1) {
		metric, labels := row[1], strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		if _, histogram := metrics[metric+"_bucket"]; histogram {
			for _, suffix := range []string{"_sum", "_count"} {
				found[metric+suffix] = true
			}
			metric, labels = metric+"_bucket", append(labels, "le")
		}
		found[metric] = true
		slices.Sort(labels)
		known, ok := metrics[metric]
		want := strings.Fields(known)
		slices.Sort(want)
		if !ok || !slices.Equal(labels, want) {
			t.Errorf("%s has the labels %q in docs/metrics.md, and %q on the page", metric, labels, want)
		}
	}
	for metric := range metrics {
		if strings.HasPrefix(metric, "iamproxy_") && !found[metric] {
			t.Errorf("docs/metrics.md has no %s", metric)
		}
	}
}

func TestMetricsFollowConventions(t *testing.T) {
	file, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = file
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("promtool check metrics: %v: %s", err, output)
	}
}

// promtool runs promtool in dir.
func promtool(dir string, args ...string) error {
	cmd := exec.Command("promtool", args...)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}

func TestAlerts(t *testing.T) {
	if err := promtool("..", "check", "rules", "alerts.yaml"); err != nil {
		t.Error(err)
	}
	if err := promtool("..", "test", "rules", "alerts_test.yaml"); err != nil {
		t.Error(err)
	}
	page := documentation(t)
	for _, r := range alerts(t).Groups[0].Rules {
		if err := checkSelectors(r.Expr); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if !word("critical warning", r.Labels["severity"]) || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 100 {
			t.Errorf("%s: severity, summary or description is missing", r.Alert)
		}
		if runbook, ok := strings.CutPrefix(r.Annotations["runbook_url"], "https://github.com/iamproxy/iamproxy/blob/main/"); !ok {
			t.Errorf("%s: no runbook_url", r.Alert)
		} else if err := checkPage(runbook); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if !strings.Contains(page, "\n| `"+r.Alert+"` |") {
			t.Errorf("%s: docs/metrics.md lacks it", r.Alert)
		}
		if !strings.HasPrefix(r.Alert, "Iamproxy") {
			t.Errorf("%s: the dashboard would not show it", r.Alert)
		}
	}
}

// checkPage returns an error if a page does not exist, or has no heading for the anchor.
func checkPage(page string) error {
	file, anchor, hasAnchor := strings.Cut(page, "#")
	text, err := os.ReadFile(filepath.Join("../../..", file))
	if err != nil || !hasAnchor {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.ReplaceAll(strings.ToLower(strings.TrimSpace(heading)), " ", "-") == anchor {
			return nil
		}
	}
	if strings.Contains(string(text), fmt.Sprintf("<a id=%q></a>", anchor)) {
		return nil
	}
	return fmt.Errorf("%s has no anchor %s", file, anchor)
}

// TestAlertsAreTested replaces the expression of each alert, so that it never fires and that it
// always fires. A case in alerts_test.yaml has to fail.
func TestAlertsAreTested(t *testing.T) {
	tests, err := os.ReadFile("../alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range alerts(t).Groups[0].Rules {
		for how, expr := range map[string]string{"never fires": "vector(1) > 1", "always fires": "vector(1)"} {
			t.Run(r.Alert+" "+how, func(t *testing.T) {
				t.Parallel()
				changed := alerts(t)
				changed.Groups[0].Rules[i].Expr = expr
				text, err := yaml.Marshal(changed)
				if err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				for file, text := range map[string][]byte{"alerts.yaml": text, "alerts_test.yaml": tests} {
					if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := promtool(dir, "check", "rules", "alerts.yaml"); err != nil {
					t.Fatal(err)
				}
				if err := promtool(dir, "test", "rules", "alerts_test.yaml"); err == nil {
					t.Error("no case in alerts_test.yaml fails")
				}
			})
		}
	}
}

// TestScrape checks scrape.yaml without its Kubernetes service discovery, which Debian's
// promtool lacks.
func TestScrape(t *testing.T) {
	text, err := os.ReadFile("../scrape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const kubernetes = "    kubernetes_sd_configs:\n      - role: pod\n"
	if strings.Count(string(text), kubernetes) != 1 {
		t.Fatal("no kubernetes_sd_configs as expected")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "scrape.yaml"), []byte(strings.Replace(string(text), kubernetes, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := promtool(dir, "check", "config", "scrape.yaml"); err != nil {
		t.Error(err)
	}
}
