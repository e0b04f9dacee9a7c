package check

import (
	"slices"
	"strings"
	"testing"
)

// walked are all steps, ok but for those that are given.
func walked(given ...Step) []Step {
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

func bad(name string) Step {
	return Step{Name: name, State: Failed, Found: "bad " + name, Next: "mend " + name}
}
func blind(name string) Step { return Step{Name: name, State: NotPermitted} }
func after(name, because string) Step {
	return Step{Name: name, State: NotTried, because: because}
}

func TestVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		steps []Step
		seen  evidence
		blame string // the step; empty: all is well
	}{
		"all is well":                        {nil, evidence{answer: letIn}, ""},
		"nobody may look":                    {[]Step{blind(Identity), blind(Database), after(Policy, Database)}, evidence{answer: letIn}, ""},
		"refused: clock before all else":     {[]Step{bad(Clock), bad(Endpoint), bad(Identity), bad(Policy), bad(Login)}, evidence{answer: refused}, Clock},
		"refused: region before keys":        {[]Step{bad(Endpoint), bad(Identity), bad(Login)}, evidence{answer: refused}, Endpoint},
		"refused: keys before policy":        {[]Step{bad(Identity), bad(Policy), bad(Login)}, evidence{answer: refused}, Identity},
		"refused: policy before database":    {[]Step{bad(Policy), bad(Database), bad(Login)}, evidence{answer: refused}, Policy},
		"refused: another account":           {[]Step{bad(Database), after(Policy, Database), bad(Login)}, evidence{answer: refused}, Database},
		"refused: nothing else is bad":       {[]Step{bad(Login)}, evidence{answer: refused}, Login},
		"not asked: IAM off":                 {[]Step{bad(Policy), bad(Database), bad(Login)}, evidence{answer: notAsked, iamOff: true}, Database},
		"not asked: user, whatever else is":  {[]Step{bad(Policy), bad(Database), bad(Login)}, evidence{answer: notAsked}, Login},
		"said why":                           {[]Step{bad(Clock), bad(Login)}, evidence{answer: otherwise}, Login},
		"no credentials":                     {[]Step{bad(Credentials), after(Login, Credentials)}, evidence{}, Credentials},
		"no credentials, and no way":         {[]Step{bad(Credentials), bad(TCP), after(TLS, TCP), after(Login, Credentials)}, evidence{}, Credentials},
		"port closed":                        {[]Step{bad(TCP), after(TLS, TCP), after(Login, TCP)}, evidence{}, TCP},
		"port closed, IAM off":               {[]Step{bad(Database), bad(TCP), after(Login, TCP)}, evidence{iamOff: true}, TCP},
		"port closed, for it is stopped":     {[]Step{bad(Database), bad(TCP), after(Login, TCP)}, evidence{down: true}, Database},
		"port closed, for it is MySQL":       {[]Step{bad(Database), bad(TCP), after(Login, TCP)}, evidence{foreign: true}, Database},
		"certificate of another time":        {[]Step{bad(Clock), bad(TLS), after(Login, TLS)}, evidence{expiry: true}, Clock},
		"certificate expired":                {[]Step{bad(TLS), after(Login, TLS)}, evidence{expiry: true}, TLS},
		"untrusted, and the clock is off":    {[]Step{bad(Clock), bad(TLS), after(Login, TLS)}, evidence{}, TLS},
		"let in, to a reader":                {[]Step{bad(Clock), bad(Writes)}, evidence{answer: letIn}, Writes},
		"let in for now":                     {[]Step{bad(Clock)}, evidence{answer: letIn}, Clock},
		"the time was up":                    {[]Step{{Name: Login, State: NotTried}}, evidence{}, "time"},
		"no name, and the region is another": {[]Step{bad(Endpoint), bad(DNS), after(Login, DNS)}, evidence{}, DNS},
	} {
		ok, cause, next := verdict("app", walked(test.steps...), test.seen)
		switch {
		case test.blame == "":
			if !ok || cause != "" || next != "" {
				t.Errorf("%s: %v, %q, %q", name, ok, cause, next)
			}
		case test.blame == "time":
			if ok || !strings.Contains(cause, "time was up") {
				t.Errorf("%s: %v, %q", name, ok, cause)
			}
		case ok || !strings.HasSuffix(cause, ": bad "+test.blame) || next != "mend "+test.blame || !strings.HasPrefix(cause, "app can"):
			t.Errorf("%s: %v, %q, %q, want %s blamed", name, ok, cause, next, test.blame)
		case strings.HasPrefix(cause, "app can log in, but ") != (test.seen.answer == letIn):
			t.Errorf("%s: %q", name, cause)
		}
	}
}

// What could not be looked at is named, and nothing else.
func TestUnexplained(t *testing.T) {
	if text := unexplained(walked(bad(Login))); !strings.Contains(text, "in order") || strings.Contains(text, "could not be looked at") {
		t.Errorf("all was looked at: %q", text)
	}
	text := unexplained(walked(blind(Database), after(Policy, Database), Step{Name: Clock, State: NoAnswer}, bad(Login)))
	if !strings.HasSuffix(text, "could not be looked at: database, policy, clock") {
		t.Errorf("some was not: %q", text)
	}
}
