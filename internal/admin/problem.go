package admin

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// problem is a component that does not work, and what to do about it.
type problem struct {
	component
	Advice    advice
	Endpoints []string // labels of those that it affects; empty if there is only one endpoint
}

// problems returns the components that do not work, the most severe first. components holds
// those of each endpoint. Endpoints with the same problem, such as a shared signer, share one.
func (s *Server) problems(proxy component, components [][]component, draining bool) []problem {
	var all []problem
	if proxy.Level >= warn {
		all = append(all, problem{component: proxy, Advice: newAdvice(proxy.Hint, "", proxy.failure.Reason)})
	}
	for column := range 3 { // all credentials before all networks
		for i, e := range s.Endpoints {
			if c := components[i][column]; c.Level >= warn {
				all = addProblem(all, e, c)
			}
		}
	}
	if len(s.Endpoints) == 1 {
		for i := range all {
			all[i].Endpoints = nil
		}
	}
	rank := func(p problem) level {
		if draining && p.Name == proxy.Name { // before all others
			return bad + 1
		}
		return p.Level
	}
	slices.SortStableFunc(all, func(a, b problem) int { return cmp.Compare(rank(b), rank(a)) })
	return all
}

// addProblem adds the problem of an endpoint to all, or the endpoint to a problem among them.
func addProblem(all []problem, e Endpoint, c component) []problem {
	for i := range all {
		if p := &all[i]; p.Name == c.Name && p.Level == c.Level && p.Cause == c.Cause {
			p.Endpoints = append(p.Endpoints, e.label())
			return all
		}
	}
	command := c.failure.Check
	if c.failure.Last.IsZero() { // found without a login
		command = e.checkCommand()
	}
	return append(all, problem{component: c, Advice: newAdvice(c.Hint, command, c.failure.Reason), Endpoints: []string{e.label()}})
}

// Heading returns the title of a problem that is not the first.
func (p problem) Heading() string {
	title := strings.TrimPrefix(p.Title, readyBut)
	first, size := utf8.DecodeRuneInString(title)
	return string(unicode.ToUpper(first)) + title[size:]
}

// advice is what to do about a failure. Each field may be empty.
type advice struct {
	Hint    string
	Command string // that finds the cause
	URL     string // of the documentation
}

// newAdvice returns the advice of a failure. All values may be empty.
func newAdvice(hint, command string, reason pgwire.Reason) advice {
	return advice{Hint: formatHint(hint).Text, Command: text.OneLine(command), URL: text.ReasonURL(string(reason))}
}
