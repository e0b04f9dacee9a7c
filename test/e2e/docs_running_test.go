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

var logLines = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")

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
	for _, field := range regexp.MustCompile(`"([a-z_]+)":`).FindAllStringSubmatch(line, -1) {
		fields = append(fields, field[1])
	}
	return message.Msg, fields
}
