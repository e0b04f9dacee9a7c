package auth

import (
	"bytes"
	"encoding/json"
	"strings"
)

// literal has the characters that make a pattern or a variable of a policy's resource
// stand for themselves.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-specialchars
var literal = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}")

// PolicyDocument is what lets its holder log in to a database as user, and no more, in
// one line.
func PolicyDocument(database Resource, user string) string {
	type statement struct{ Effect, Action, Resource string }
	document := struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{{"Allow", database.Action(user), database.ARN(literal.Replace(user))}}}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(document) // strings alone cannot fail
	return strings.TrimSpace(b.String())
}
