package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAWSSettings verifies that aws-settings.md has each setting that the SDK reads: the
// variables of config/env_config.go, and the keys of config/shared_config.go.
func TestAWSSettings(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/aws-settings.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/config").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file, setting := range map[string]*regexp.Regexp{
		"env_config.go":    regexp.MustCompile(`(?m)^\s*aws\w+\s+= "(AWS_\w+)"$`),
		"shared_config.go": regexp.MustCompile("(?m)^\\s*\\w+(?:Key|ID|[eE]ndpoint\\w*|URL|Compression\\w*|SizeBytes|Correction|Mode)\\s+= [\"`]([a-z0-9_]+)[\"`]"),
	} {
		source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
		if err != nil {
			t.Fatal(err)
		}
		found := setting.FindAllSubmatch(source, -1)
		if len(found) < 30 {
			t.Errorf("%s: only %d settings", file, len(found))
		}
		for _, match := range found {
			if name := string(match[1]); !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("aws-settings.md does not have %s", name)
			}
		}
	}
}
