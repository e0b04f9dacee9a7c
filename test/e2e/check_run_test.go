//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// inRun has what run says for each reason of a failed check: the reason in its log, empty for the
// same one, and the cause in its hint. docs/check.md lists the reasons that differ.
var inRun = map[string]struct{ reason, hint string }{
	"region_mismatch":            {"token_refused", "signed for us-east-1, but the endpoint is in eu-west-1"},
	"credentials_rejected":       {"token_refused", "AWS rejects the credentials from the environment"},
	"policy_missing":             {"token_refused", `rds-db:connect on arn:aws:rds-db:eu-west-1:|dsql:DbConnect on arn:aws:dsql:us-east-1:`},
	"database_not_found":         {"token_refused", "in account 444455556666"},
	"iam_disabled":               {"token_refused|password_requested", "IAM authentication is (enabled on the database|off)"},
	"clock_skew":                 {"token_refused", "clock of this machine is .* (ahead of|behind) AWS's"},
	"database_down":              {"dial_refused|dial_failed|no_answer", "database is running|Nothing is listening"},
	"port_mismatch":              {"dial_refused|dial_failed|no_answer", "the port is right"},
	"token_refused":              {"", "iam-db-auth-error"},
	"password_requested":         {"", "does not exist, or is not a member of rds_iam, or IAM authentication is off|is usually the administrator"},
	"server_refused":             {"", ""}, // the message of the server has the cause
	"dial_refused":               {"", "Nothing is listening on|the database is running"},
	"resolve_failed":             {"", "Check the name"},
	"tls_untrusted":              {"", "Find out who issued it .*If it is your company's TLS inspection, |Download https://truststore"},
	"tls_wrong_name":             {"", "leads to this database"},
	"tls_expired":                {"", "Check this machine's clock. If it is right, the database needs a new certificate."},
	"tls_not_offered":            {"", "leads to the database"},
	"connection_closed":          {"", "leads to the database"},
	"tls_request_unknown":        {"", "leads to the database"},
	"not_writable":               {"", "reader endpoint, or target=any"},
	"no_credentials":             {"", "aws sso login|task role"},
	"sso_expired":                {"", "aws sso login --profile dev"},
	"source_credentials_expired": {"", ""},
}

// serving returns run for the same endpoint as a check with args.
func (c *checkTest) serving(args []string) *exec.Cmd {
	cmd := exec.Command(binaryPath(c.t), args...)
	cmd.Env = c.env
	return cmd
}

// agrees fails unless run, which cmd is for the same endpoint, rejects a login of user for the
// cause that the check has found.
func (r checked) agrees(cmd *exec.Cmd, user, database string) {
	r.t.Helper()
	want, known := inRun[r.Reason]
	if !known {
		r.t.Errorf("reason %q of %s: what does run say?", r.Reason, r.Cause)
		return
	}
	cmd.Args = append(cmd.Args, "--listen=127.0.0.1:0", "--admin=off", "--connect-timeout=2s")
	p := startCommand(r.t, cmd, 1)
	out, err := p.psql(user, database, "select 1")
	if err == nil {
		r.t.Errorf("check: %s\nrun: a session", r.Cause)
		return
	}
	reason := p.lastReason()
	if reason != r.Reason && !slices.Contains(strings.Split(want.reason, "|"), reason) {
		r.t.Errorf("check has reason %s: %s\nrun has reason %s: %s", r.Reason, r.Cause, reason, out)
	}
	_, hint, _ := strings.Cut(out, "HINT:")
	if !regexp.MustCompile(want.hint).MatchString(hint) {
		r.t.Errorf("check has reason %s: %s\nrun has no such hint (%s): %s", r.Reason, r.Cause, want.hint, out)
	}
}

// lastReason returns the reason of the last failure in the log.
func (p *process) lastReason() (reason string) {
	until(p.t, "the reason in the log", func() bool {
		for line := range strings.Lines(p.logs()) {
			var entry struct{ Reason string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Reason != "" {
				reason = entry.Reason
			}
		}
		return reason != ""
	})
	return reason
}

// A table of docs/check.md has the reasons that differ.
func TestCheckReasonsListed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason, says := range inRun {
		row := regexp.MustCompile("(?m)^\\| .*`" + reason + "`.* \\| (.*) \\|$").FindSubmatch(page)
		switch {
		case (row != nil) != (says.reason != ""):
			t.Errorf("docs/check.md, %s: in the table: %v, differs in run: %v", reason, row != nil, says.reason != "")
		case row != nil && !slices.ContainsFunc(strings.Split(says.reason, "|"), func(reason string) bool { return strings.Contains(string(row[1]), "`"+reason+"`") }):
			t.Errorf("docs/check.md, %s: %s, want %s", reason, row[1], says.reason)
		}
	}
}
