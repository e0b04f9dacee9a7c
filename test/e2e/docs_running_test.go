//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var (
	logLines  = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")
	fieldName = regexp.MustCompile(`"([a-z_]+)":`)
)

// The lines of a session in docs/running.md have the fields of the log, in the same order.
func TestLogOfDocs(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "running.md"))
	if err != nil {
		t.Fatal(err)
	}
	sample := logLines.FindSubmatch(page)
	if sample == nil {
		t.Fatal("no JSON on the page")
	}
	cluster := startCluster(t, &aurora.Cluster{})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), clusterArgs(cluster)...)
	conn, err := p.connect(t.Context(), aurora.IAMUser, aurora.Database)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
	p.signal(syscall.SIGTERM)
	<-p.exited
	written := make(map[string][]string)
	for line := range strings.Lines(p.logs()) {
		msg, fields := logFields(t, line)
		written[msg] = fields
	}
	n := 0
	for line := range strings.Lines(string(sample[1])) {
		msg, fields := logFields(t, line)
		n++
		want := written[msg]
		if !slices.Contains(want, "application_name") { // pgx sends none unless it is configured
			fields = slices.DeleteFunc(fields, func(field string) bool { return field == "application_name" })
		}
		if !slices.Equal(fields, want) {
			t.Errorf("%s: the page has the fields %q, the log %q", msg, fields, want)
		}
	}
	if n != 2 {
		t.Errorf("%d lines on the page, want 2", n)
	}
}

// logFields returns the message of a line of the log and the names of its fields in their order,
// those of nested objects included.
func logFields(t *testing.T, line string) (msg string, fields []string) {
	t.Helper()
	var message struct{ Msg string }
	if err := json.Unmarshal([]byte(line), &message); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	for _, field := range fieldName.FindAllStringSubmatch(line, -1) {
		fields = append(fields, field[1])
	}
	return message.Msg, fields
}

// stepIndent matches the indentation of blocks in numbered steps.
var stepIndent = regexp.MustCompile("(?m)^   ")

// The commands of the systemd page create the user and log in; that of upgrade.md checks the login.
func TestSystemdPage(t *testing.T) {
	t.Parallel()
	cluster := startGrantable(t)
	asSuperuser(t, cluster, "ALTER DATABASE "+aurora.Database+" OWNER TO postgres", "DROP ROLE "+aurora.IAMUser)
	d := newPageShell(t, cluster, "../deploy/systemd/README.md")
	d.page = stepIndent.ReplaceAllString(d.page, "")
	d.env = append(append(d.env, startPageAWS(t)...), "PGPASSWORD="+adminPassword, "IAMPROXY_ENDPOINTS="+aurora.DefaultHost)
	upgrade := newPageShell(t, cluster, "upgrade.md")
	upgrade.page = stepIndent.ReplaceAllString(upgrade.page, "")
	connect, _, _ := strings.Cut(d.block("iamproxy wait", "psql"), "\n")
	out := d.run(d.block("iamproxy grant"), upgrade.block("iamproxy check"), "iamproxy 2>iamproxy.log &", connect, "iamproxy shutdown")
	if !strings.Contains(out, "ok: user \"app\" can log in to database \"mydb\"\n") || !strings.Contains(out, " app\n") {
		t.Errorf("printed %s", out)
	}
}
