package fakeaws

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// json11 serves a service with AWS's JSON protocol 1.1, whose actions are named in a header:
// TARGET.ACTION.
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
func (a *AWS) json11(w http.ResponseWriter, r *http.Request, path, service, target string,
	act func(c caller, action string, body []byte) (any, *refusal)) {
	if r.Method != http.MethodPost || path != "" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // cannot happen: serve has read the body
	}
	c, refused := a.callerOf(r, body, service)
	var answer any
	if refused == nil {
		action, known := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target+".")
		if !known {
			action = ""
		}
		answer, refused = act(c, action, body)
	}
	if refused != nil {
		writeJSON11(w, http.StatusBadRequest, map[string]string{"__type": inJSON(refused.code), "message": refused.message})
		return
	}
	writeJSON11(w, http.StatusOK, answer)
}

// unknownOperation returns the refusal of an action that is not implemented.
func unknownOperation() *refusal {
	return &refusal{http.StatusBadRequest, "UnknownOperationException", "this fake does not have this action"}
}

// malformed returns the refusal of a body that is not the JSON of the action.
func malformed() *refusal {
	return &refusal{http.StatusBadRequest, "SerializationException", "the body is not the action's JSON"}
}

// parse decodes the body of a request.
func parse[T any](body []byte) (request T, refused *refusal) {
	if json.Unmarshal(body, &request) != nil {
		return request, malformed()
	}
	return request, nil
}

// inJSON returns the JSON protocol's name of an error code that all services have. Other
// codes are returned as they are.
func inJSON(code string) string {
	switch code {
	case "InvalidClientTokenId":
		return "UnrecognizedClientException"
	case "SignatureDoesNotMatch":
		return "InvalidSignatureException"
	case "MissingAuthenticationToken", "IncompleteSignature", "ExpiredToken", "AccessDenied":
		return code + "Exception"
	case "ValidationError":
		return "ValidationException"
	}
	return code
}

func writeJSON11(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // fails if the client has disconnected
}
