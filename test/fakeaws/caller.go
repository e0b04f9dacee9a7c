package fakeaws

import (
	"net/http"
	"regexp"
)

// caller is the identity that signed a request, and the region of the signature.
type caller struct{ arn, account, region string }

// scope reads the header that VerifyHeader has verified.
var scope = regexp.MustCompile(`Credential=[^/]+/[0-9]+/([^/]+)/([^/]+)/aws4_request`)

// callerOf returns the caller of a request to service.
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
