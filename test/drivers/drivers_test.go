//go:build unix

package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

func TestOnlyWhatIsKnownToBeGoodPasses(t *testing.T) {
	good := map[string]string{"query": done, "transaction": done, "copy": hasNot, "cancel": done}
	for _, test := range []struct {
		name, step, result string
		fails              bool
	}{
		{"all as it should be", "query", done, false},
		{"COPY one way", "copy", inOnly, false},
		{"another step one way", "query", inOnly, true},
		{"an error", "cancel", "canceled nothing", true},
		{"an error that looks well", "cancel", "ok, but late", true},
		{"nothing", "cancel", "", true},
	} {
		results := maps.Clone(good)
		results[test.step] = test.result
		r := judge(report{Driver: "d", Version: "1", Runtime: "r", Steps: results})
		if fails := len(r.failures) > 0; fails != test.fails {
			t.Errorf("%s: %v", test.name, r.failures)
		}
		if failed := strings.Contains(table([]row{r}), "FAILED"); failed != test.fails {
			t.Errorf("%s: the table has it wrong:\n%s", test.name, table([]row{r}))
		}
	}
	if r := judge(report{Driver: "d", Runtime: "r", Steps: good}); len(r.failures) == 0 {
		t.Error("no version, and no failure")
	}
}

// A session on another route is a failure, and so is none.
func TestSessionsOnAnotherRoute(t *testing.T) {
	clear, secure, socket := `{"msg":"session opened","client":"127.0.0.1:1","client_tls":""}`,
		`{"msg":"session opened","client":"127.0.0.1:1","client_tls":"TLS 1.3","client_cert":"CN=iam_user"}`, `{"msg":"session opened","client":"unix:/x","client_tls":""}`
	for i, right := range []string{clear, secure, socket} {
		r := routes("", nil)[i]
		if r.sessions.other(r.right) == "" {
			t.Errorf("%s: no session passes", r.name)
		}
		r.sessions.note([]byte(`{"msg":"session ended"}`))
		r.sessions.note([]byte(right))
		if other := r.sessions.other(r.right); other != "" {
			t.Errorf("%s: %s", r.name, other)
		}
		for _, wrong := range []string{clear, secure, socket} {
			r.sessions.note([]byte(wrong))
		}
		if r.sessions.other(r.right) == "" {
			t.Errorf("%s: other sessions pass", r.name)
		}
	}
}

// The result of another route has a column, and its failures have lines.
func TestOtherRoutes(t *testing.T) {
	steps := map[string]string{"query": done, "transaction": done, "copy": done, "cancel": done}
	none := map[string]string{"query": hasNot, "transaction": hasNot, "copy": hasNot, "cancel": hasNot}
	broken := maps.Clone(steps)
	broken["cancel"] = "canceled nothing"
	r := judge(report{Driver: "d", Version: "1", Runtime: "r", Steps: steps})
	for route, results := range map[string]map[string]string{"a": steps, "b": none} {
		r.add(route, judge(report{Driver: "d", Version: "1", Runtime: "r", Steps: results}))
	}
	if len(r.failures) != 0 {
		t.Errorf("failures %v", r.failures)
	}
	r.add("c", judge(report{Driver: "d", Version: "1", Runtime: "r", Steps: broken}))
	if r.failures["c cancel"] != "canceled nothing" || countFailed([]row{r}) != 1 || r.routes[2] != failed {
		t.Errorf("failures %v, routes %v", r.failures, r.routes)
	}
}

// A program that cannot run is a failure, with the reason.
func TestProgramThatFails(t *testing.T) {
	t.Chdir("../..")
	for name, command := range map[string][]string{
		"exit status 3: no driver": {"sh", "-c", "echo no driver >&2; exit 3"},
		"printed no report":        {"echo", "hello"},
		"not found":                {"no-such-program"},
	} {
		_, err := readReport(t.Context(), driver{"d", ".", command}, nil)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v, want %q", command, err, name)
		}
	}
}

// A login that should be rejected fails with another SQLSTATE, another message or a session.
func TestJudgeLogin(t *testing.T) {
	rejected, accepted := login{"", "", []string{"not accepted", "expired"}}, login{}
	const good = "28000 FATAL: iamproxy: client certificate is not accepted: it has expired"
	for _, test := range []struct {
		login login
		line  string
		fails bool
	}{
		{rejected, good, false},
		{rejected, strings.Replace(good, "28000", "08004", 1), true},
		{rejected, strings.Replace(good, "expired", "ended", 1), true},
		{rejected, aurora.IAMUser, true},
		{accepted, aurora.IAMUser, false},
		{accepted, aurora.OtherUser, true},
		{accepted, good, true},
	} {
		if err := test.login.judge(test.line); (err != nil) != test.fails {
			t.Errorf("%q: %v", test.line, err)
		}
	}
}
