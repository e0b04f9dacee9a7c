package fakeaws

import (
	"net/http"
	"regexp"
)

// caller is who has signed a request, and for which region.
type caller struct{ arn, account, region string }

// scope is in the header that VerifyHeader has looked at.
var scope = regexp.MustCompile(`Credential=[^/]+/[0-9]+/([^/]+)/([^/]+)/aws4_request`)

// callerOf is who asks service.
func (a *AWS) callerOf(r *http.Request, body []byte, service string) (caller, *refusal) {
	who, refused := a.caller(r, body)
	if refused != nil {
		return caller{}, refused
	}
	signed := scope.FindStringSubmatch(r.Header.Get("Authorization"))
	if signed[2] != service {
		return caller{}, &refusal{403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: '" + service + "'. "}
	}
	parsed, _ := parseARN(who)
	return caller{who, parsed.account, signed[1]}, nil
}
