package sigv4

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm   = "AWS4-HMAC-SHA256"
	terminator  = "aws4_request"
	timeFormat  = "20060102T150405Z"
	dateFormat  = "20060102"
	maxLifetime = 7 * 24 * time.Hour // the manual's upper bound of X-Amz-Expires
)

// request is a parsed signed request.
type request struct {
	claims       Claims
	canonical    string // step 1 of the manual
	scope        string // date/region/service/aws4_request
	sessionToken string
	signature    string // 64 lower-case hexadecimal digits
}

// param is one decoded query parameter, or a header.
type param struct{ name, value string }

// parse parses token and checks the form of every part.
func parse(token string) (request, error) {
	target, query, ok := strings.Cut(token, "?")
	if !ok {
		return request{}, malformed("no query string")
	}
	host, path := target, ""
	if slash := strings.IndexByte(target, '/'); slash >= 0 {
		host, path = target[:slash], target[slash:]
	}
	if !isHost(host) {
		return request{}, malformed("not of the form host or host:port")
	}
	r := request{claims: Claims{Host: host, Path: path}}

	var signed []param // all but X-Amz-Signature
	values := make(map[string]string)
	for pair := range strings.SplitSeq(query, "&") {
		p, err := parseParam(pair)
		if err != nil {
			return request{}, err
		}
		// Repeated names are signed like any others, but it is undefined which value
		// counts.
		if _, twice := values[p.name]; twice {
			return request{}, malformed("a query parameter occurs twice")
		}
		values[p.name] = p.value
		if p.name != "X-Amz-Signature" {
			signed = append(signed, p)
		}
	}
	if err := r.read(values); err != nil {
		return request{}, err
	}
	r.canonical = canonicalRequest("GET", path, signed, []param{{"host", host}}, emptyPayload)
	return r, nil
}

// read sets the fields that decoded query parameters have.
func (r *request) read(values map[string]string) error {
	if r.claims.Action = values["Action"]; r.claims.Action == "" {
		return malformed("no Action")
	}
	var named bool
	if r.claims.User, named = values["DBUser"]; named && r.claims.User == "" {
		return malformed("DBUser is empty")
	}
	if values["X-Amz-Algorithm"] != algorithm {
		return malformed("X-Amz-Algorithm is not " + algorithm)
	}
	if values["X-Amz-SignedHeaders"] != "host" {
		return malformed("X-Amz-SignedHeaders is not host")
	}
	r.sessionToken, r.claims.HasSessionToken = values["X-Amz-Security-Token"]
	if r.claims.HasSessionToken && r.sessionToken == "" {
		return malformed("X-Amz-Security-Token is empty")
	}
	if r.signature = values["X-Amz-Signature"]; !isSignature(r.signature) {
		return malformed("X-Amz-Signature is not 64 lower-case hexadecimal digits")
	}

	if err := r.readDate(values["X-Amz-Date"]); err != nil {
		return err
	}
	seconds, err := strconv.ParseUint(values["X-Amz-Expires"], 10, 32)
	if err != nil || seconds < 1 || seconds > uint64(maxLifetime/time.Second) {
		return malformed("X-Amz-Expires is not between 1 and 604800 seconds")
	}
	r.claims.Expires = time.Duration(seconds) * time.Second

	return r.readCredential(values["X-Amz-Credential"])
}

// readDate parses X-Amz-Date.
func (r *request) readDate(date string) error {
	signedAt, err := time.Parse(timeFormat, date)
	if err != nil || signedAt.Format(timeFormat) != date {
		return malformed("X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ")
	}
	r.claims.SignedAt = signedAt
	return nil
}

// readCredential parses AKID/date/region/service/aws4_request. SignedAt must have been
// read.
func (r *request) readCredential(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[4] != terminator {
		return malformed("the credential is not of the form key/date/region/service/" + terminator)
	}
	for _, part := range parts {
		if part == "" {
			return malformed("the credential has an empty part")
		}
	}
	if parts[1] != r.claims.SignedAt.Format(dateFormat) {
		return malformed("the date of the credential is not that of X-Amz-Date")
	}
	r.claims.AccessKeyID, r.claims.Region, r.claims.Service = parts[0], parts[2], parts[3]
	r.scope = strings.Join(parts[1:], "/")
	return nil
}

// parseParam decodes name=value. A '+' stands for itself: in SigV4 a space is always %20.
func parseParam(pair string) (param, error) {
	name, value, ok := strings.Cut(pair, "=")
	if !ok || name == "" {
		return param{}, malformed("a query parameter is not of the form name=value")
	}
	name, errName := url.PathUnescape(name)
	value, errValue := url.PathUnescape(value)
	if errName != nil || errValue != nil {
		// Not wrapped: the error of package url quotes the text.
		return param{}, malformed("a query parameter is not percent-encoded properly")
	}
	return param{name, value}, nil
}

// isHost reports whether host is a name or address, with or without a decimal port.
func isHost(host string) bool {
	if !strings.Contains(host, ":") {
		return host != ""
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || name == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// isSignature reports whether s is a SHA-256 in lower-case hexadecimal.
func isSignature(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
