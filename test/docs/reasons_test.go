package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/text"
)

// docs/refused.md has one anchor for each reason, where the URL of the reason leads.
func TestRefusedHasReasons(t *testing.T) {
	page := read(t, "docs/refused.md")
	for file, constant := range map[string]string{
		"proxy/pgwire/reason.go":   `(?m)^\t\w+ +Reason = "(\w+)"`,
		"auth/reason.go":           `(?m)^\tReason\w+ Reason = "(\w+)"`,
		"internal/check/reason.go": `(?m)^\treason\w+ += "(\w+)"`,
	} {
		reasons := regexp.MustCompile(constant).FindAllStringSubmatch(read(t, file), -1)
		if len(reasons) < 9 {
			t.Errorf("%s: %d reasons found", file, len(reasons))
		}
		for _, reason := range reasons {
			if n := strings.Count(page, fmt.Sprintf("<a id=%q></a>", reason[1])); n != 1 {
				t.Errorf("docs/refused.md has %d anchors %s, want 1", n, reason[1])
			}
			if url := text.ReasonURL(reason[1]); url != "https://github.com/iamproxy/iamproxy/blob/main/docs/refused.md#"+reason[1] {
				t.Errorf("the URL of %s is %s", reason[1], url)
			}
		}
	}
}
