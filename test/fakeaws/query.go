package fakeaws

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// query serves a service with AWS's Query protocol: requests are forms, responses XML.
// https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
func (a *AWS) query(w http.ResponseWriter, r *http.Request, path, namespace string,
	act func(r *http.Request, body []byte, form url.Values) (any, *refusal)) {
	if r.Method != http.MethodPost || path != "" {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // cannot happen: serve has read the body
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		refuse(w, namespace, &refusal{400, "MalformedQueryString", "The query string contains a syntax error"})
		return
	}
	answer, refused := act(r, body, form)
	if refused != nil {
		refuse(w, namespace, refused)
		return
	}
	writeXML(w, http.StatusOK, answer)
}

// response is the usual response to an action: <ActionResponse> around <ActionResult>. An
// action without a result has only the former.
type response struct {
	namespace, action string
	result            any
}

// MarshalXML implements xml.Marshaler, since struct tags cannot name elements by a
// variable.
func (r response) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	start := xml.StartElement{Name: xml.Name{Space: r.namespace, Local: r.action + "Response"}}
	metadata := struct {
		RequestID string `xml:"RequestId"`
	}{newRequestID()}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if r.result != nil {
		if err := e.EncodeElement(r.result, element(r.action+"Result")); err != nil {
			return err
		}
	}
	if err := e.EncodeElement(metadata, element("ResponseMetadata")); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

type errorResponse struct {
	XMLName   xml.Name
	Type      string `xml:"Error>Type"`
	Code      string `xml:"Error>Code"`
	Message   string `xml:"Error>Message"`
	RequestID string `xml:"RequestId"`
}

// refusal is an error caused by the client.
type refusal struct {
	status        int
	code, message string
}

// Error implements error.
func (r *refusal) Error() string { return r.code + ": " + r.message }

// invalid returns the refusal of a malformed request.
func invalid(format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "ValidationError", fmt.Sprintf(format, args...)}
}

// invalidAction returns the refusal of an action that is not implemented.
func invalidAction(form url.Values) *refusal {
	return &refusal{http.StatusBadRequest, "InvalidAction",
		"Could not find operation " + form.Get("Action") + " for version " + form.Get("Version")}
}

func refuse(w http.ResponseWriter, namespace string, r *refusal) {
	writeXML(w, r.status, errorResponse{XMLName: xml.Name{Space: namespace, Local: "ErrorResponse"},
		Type: "Sender", Code: r.code, Message: r.message, RequestID: newRequestID()})
}

func writeXML(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(answer) // fails if the client has disconnected
}

// newRequestID returns a random UUID.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
