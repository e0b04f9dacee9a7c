// Package check tries what is in deploy/prometheus with promtool: the alerts, what a
// mistake in one would do, the scrape configuration and the dashboard's queries.
package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// metrics are those that iamproxy has, with the labels of its own.
var metrics = map[string]string{
	"up":                              "",
	"ALERTS":                          "alertname alertstate",
	"go_goroutines":                   "",
	"process_cpu_seconds_total":       "",
	"process_resident_memory_bytes":   "",
	"iamproxy_build_info":             "version commit goversion",
	"iamproxy_bytes_total":            "endpoint direction",
	"iamproxy_cancel_requests_total":  "endpoint result",
	"iamproxy_connect_seconds_bucket": "endpoint phase le",
	"iamproxy_draining":               "",
	"iamproxy_login_failures_total":   "endpoint sqlstate",
	"iamproxy_login_retries_total":    "endpoint",
	"iamproxy_max_sessions":           "",
	"iamproxy_pool_connections":       "endpoint state",
	"iamproxy_ready":                  "",
	"iamproxy_server_certificate_expiry_timestamp_seconds": "endpoint",
	"iamproxy_sessions":                       "endpoint",
	"iamproxy_sessions_total":                 "endpoint result",
	"iamproxy_token_expiry_timestamp_seconds": "endpoint user",
	"iamproxy_tokens_signed_total":            "endpoint result",
}

// targetLabels come from how Prometheus finds its targets.
const targetLabels = "job namespace instance"

// values are what some labels can be.
var values = map[string]string{
	"phase":     "queue resolve dial tls login total",
	"result":    "ok failed rejected abandoned delivered repeated",
	"direction": "up down",
	"state":     "idle in_use resetting",
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	name     = regexp.MustCompile(`\b(iamproxy|process|go)_[a-z_]+\b`)
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
)

// foreign is what an expression asks for that nobody has.
func foreign(expr string) error {
	for _, metric := range name.FindAllString(expr, -1) {
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

// documented is a row of the table in docs/metrics.md.
var documented = regexp.MustCompile("(?m)^\\| `(iamproxy_[a-z_]+)` \\|([^|]*)\\|")

// TestMetrics holds the list above against what iamproxy is documented to have.
func TestMetrics(t *testing.T) {
	text, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, row := range documented.FindAllStringSubmatch(string(text), -1) {
		metric, labels := row[1], strings.Join(strings.FieldsFunc(row[2], func(r rune) bool { return strings.ContainsRune("`, ", r) }), " ")
		if metric == "iamproxy_connect_seconds" { // a histogram
			metric, labels = metric+"_bucket", labels+" le"
		}
		found[metric] = true
		if known, ok := metrics[metric]; !ok || known != labels {
			t.Errorf("%s has the labels %q, here it has %q", metric, labels, known)
		}
	}
	for metric := range metrics {
		if strings.HasPrefix(metric, "iamproxy_") && !found[metric] {
			t.Errorf("docs/metrics.md has no %s", metric)
		}
	}
}

// promtool says what it says about files in dir.
func promtool(dir string, args ...string) error {
	cmd := exec.Command("promtool", args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
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
	for _, r := range alerts(t).Groups[0].Rules {
		if err := foreign(r.Expr); err != nil {
			t.Errorf("%s: %v", r.Alert, err)
		}
		if !word("critical warning", r.Labels["severity"]) || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 100 {
			t.Errorf("%s: it does not say how bad it is, what, or what to do", r.Alert)
		}
		if !strings.HasPrefix(r.Alert, "Iamproxy") {
			t.Errorf("%s: the dashboard would not show it", r.Alert)
		}
	}
}

// TestAlertsAreTested spoils one alert after the other: once it never fires, and once it
// always does.
func TestAlertsAreTested(t *testing.T) {
	tests, err := os.ReadFile("../alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range alerts(t).Groups[0].Rules {
		for how, expr := range map[string]string{"never fires": "vector(1) > 1", "always fires": "vector(1)"} {
			t.Run(r.Alert+" "+how, func(t *testing.T) {
				t.Parallel()
				spoilt := alerts(t)
				spoilt.Groups[0].Rules[i].Expr = expr
				text, err := yaml.Marshal(spoilt)
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
					t.Error("no test notices")
				}
			})
		}
	}
}

// TestScrape looks at all but the lines that ask Kubernetes: Debian's promtool is
// compiled without it.
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
