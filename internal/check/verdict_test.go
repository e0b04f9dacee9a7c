package check

import (
	"slices"
	"strings"
	"testing"
)

// allSteps returns all steps. Those that are not given are OK.
func allSteps(given ...Step) []Step {
	var all []Step
	for _, step := range steps {
		s := Step{Name: step.name, State: OK, Found: "fine"}
		if i := slices.IndexFunc(given, func(g Step) bool { return g.Name == step.name }); i >= 0 {
			s = given[i]
		}
		all = append(all, s)
	}
	return all
}

func failing(name string) Step {
	return Step{Name: name, State: Failed, Found: "failed " + name, Next: "fix " + name}
}
func unchecked(name string) Step { return Step{Name: name, State: NotPermitted} }
func skipped(name, because string) Step {
	return Step{Name: name, State: NotTried, because: because}
}

func TestVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		steps []Step
		seen  evidence
		step  string // the step; empty if none
	}{
		"no failure":                             {nil, evidence{login: accepted}, ""},
		"not permitted":                          {[]Step{unchecked(Identity), unchecked(Database), skipped(Policy, Database)}, evidence{login: accepted}, ""},
		"refused: clock before all others":       {[]Step{failing(Clock), failing(Endpoint), failing(Identity), failing(Policy), failing(Login)}, evidence{login: tokenRefused}, Clock},
		"refused: region before keys":            {[]Step{failing(Endpoint), failing(Identity), failing(Login)}, evidence{login: tokenRefused}, Endpoint},
		"refused: keys before policy":            {[]Step{failing(Identity), failing(Policy), failing(Login)}, evidence{login: tokenRefused}, Identity},
		"refused: policy before database":        {[]Step{failing(Policy), failing(Database), failing(Login)}, evidence{login: tokenRefused}, Policy},
		"refused: another account":               {[]Step{failing(Database), skipped(Policy, Database), failing(Login)}, evidence{login: tokenRefused}, Database},
		"refused: no other failure":              {[]Step{failing(Login)}, evidence{login: tokenRefused}, Login},
		"password requested: IAM off":            {[]Step{failing(Policy), failing(Database), failing(Login)}, evidence{login: passwordRequested, iamOff: true}, Database},
		"password requested: user before others": {[]Step{failing(Policy), failing(Database), failing(Login)}, evidence{login: passwordRequested}, Login},
		"other error":                            {[]Step{failing(Clock), failing(Login)}, evidence{login: otherError}, Login},
		"no credentials":                         {[]Step{failing(Credentials), skipped(Login, Credentials)}, evidence{}, Credentials},
		"no credentials, port closed":            {[]Step{failing(Credentials), failing(TCP), skipped(TLS, TCP), skipped(Login, Credentials)}, evidence{}, Credentials},
		"port closed":                            {[]Step{failing(TCP), skipped(TLS, TCP), skipped(Login, TCP)}, evidence{}, TCP},
		"port closed, IAM off":                   {[]Step{failing(Database), failing(TCP), skipped(Login, TCP)}, evidence{iamOff: true}, TCP},
		"port closed, stopped":                   {[]Step{failing(Database), failing(TCP), skipped(Login, TCP)}, evidence{down: true}, Database},
		"port closed, MySQL":                     {[]Step{failing(Database), failing(TCP), skipped(Login, TCP)}, evidence{foreign: true}, Database},
		"certificate expired, clock off":         {[]Step{failing(Clock), failing(TLS), skipped(Login, TLS)}, evidence{expiry: true}, Clock},
		"certificate expired":                    {[]Step{failing(TLS), skipped(Login, TLS)}, evidence{expiry: true}, TLS},
		"untrusted, clock off":                   {[]Step{failing(Clock), failing(TLS), skipped(Login, TLS)}, evidence{}, TLS},
		"accepted by a reader":                   {[]Step{failing(Clock), failing(Writes)}, evidence{login: accepted}, Writes},
		"accepted, clock off":                    {[]Step{failing(Clock)}, evidence{login: accepted}, Clock},
		"timeout":                                {[]Step{{Name: Login, State: NotTried}}, evidence{}, "time"},
		"session: keys before the session":       {[]Step{failing(Identity), failing(Session), skipped(TCP, Session)}, evidence{rejected: true}, Identity},
		"session: clock before keys":             {[]Step{failing(Clock), failing(Identity), failing(Session)}, evidence{rejected: true}, Clock},
		"session: keys of another profile":       {[]Step{failing(Policy), failing(Session), skipped(TCP, Session)}, evidence{rejected: true}, Session},
		"no session, other keys":                 {[]Step{failing(Identity), failing(Session), skipped(TCP, Session)}, evidence{}, Session},
		"no such host, other region":             {[]Step{failing(Endpoint), failing(DNS), skipped(Login, DNS)}, evidence{}, DNS},
	} {
		ok, cause, next := verdict("app", allSteps(test.steps...), test.seen)
		switch {
		case test.step == "":
			if !ok || cause != "" || next != "" {
				t.Errorf("%s: %v, %q, %q", name, ok, cause, next)
			}
		case test.step == "time":
			if ok || !strings.Contains(cause, "timed out before completing any check") {
				t.Errorf("%s: %v, %q", name, ok, cause)
			}
		case ok || !strings.HasSuffix(cause, " failed "+test.step) || next != "fix "+test.step || !strings.HasPrefix(cause, `user "app" can`):
			t.Errorf("%s: %v, %q, %q, want the cause %s", name, ok, cause, next, test.step)
		case strings.HasPrefix(cause, `user "app" can log in, but `) != (test.seen.login == accepted):
			t.Errorf("%s: %q", name, cause)
		}
	}
}

// The text names the steps that could not be checked, and no others.
func TestUnexplained(t *testing.T) {
	if text := unexplained(allSteps(failing(Login))); !strings.Contains(text, "all other checks passed") || strings.Contains(text, "could not be checked") {
		t.Errorf("all checked: %q", text)
	}
	text := unexplained(allSteps(unchecked(Database), skipped(Policy, Database), Step{Name: Clock, State: NoAnswer}, failing(Login)))
	if !strings.HasSuffix(text, "could not be checked: database, policy, clock") {
		t.Errorf("some unchecked: %q", text)
	}
}
