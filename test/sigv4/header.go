package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// VerifyHeader checks that one of the keys that find returns has signed r, whose body is
// body, in its Authorization header, and less than MaxSkew ago. r is a server's request.
// The signature may be for any region and service. The access key ID is returned with every
// error but ErrMalformed.
//
// The rules are under "Create a signed AWS API request" in the IAM User Guide.
func VerifyHeader(r *http.Request, body []byte, find func(accessKeyID string) (Key, bool), now time.Time) (accessKeyID string, err error) {
	signed, err := parseHeader(r, body)
	if err != nil {
		return "", err
	}
	return signed.claims.AccessKeyID, signed.check(find, now)
}

// parseHeader parses a request that is signed in its header.
func parseHeader(r *http.Request, body []byte) (request, error) {
	fields, err := authorization(r)
	if err != nil {
		return request{}, err
	}
	signed := request{claims: Claims{Expires: MaxSkew}}
	if err := signed.readDate(r.Header.Get("X-Amz-Date")); err != nil {
		return request{}, err
	}
	if err := signed.readCredential(fields["Credential"]); err != nil {
		return request{}, err
	}
	if signed.signature = fields["Signature"]; !isSignature(signed.signature) {
		return request{}, malformed("the signature is not 64 lower-case hexadecimal digits")
	}
	_, signed.claims.HasSessionToken = r.Header["X-Amz-Security-Token"]
	signed.sessionToken = r.Header.Get("X-Amz-Security-Token")
	if signed.claims.HasSessionToken && signed.sessionToken == "" {
		return request{}, malformed("X-Amz-Security-Token is empty")
	}

	headers, err := signedHeaders(r, fields["SignedHeaders"])
	if err != nil {
		return request{}, err
	}
	query, err := queryParams(r.URL.RawQuery)
	if err != nil {
		return request{}, err
	}
	hash := sha256.Sum256(body)
	signed.canonical = canonicalRequest(r.Method, r.URL.EscapedPath(), query, headers, hex.EncodeToString(hash[:]))
	return signed, nil
}

// queryParams returns the parameters of a query string, which may be empty.
func queryParams(query string) ([]param, error) {
	if query == "" {
		return nil, nil
	}
	var params []param
	for pair := range strings.SplitSeq(query, "&") {
		p, err := parseParam(pair)
		if err != nil {
			return nil, err
		}
		params = append(params, p)
	}
	return params, nil
}

// authorization parses the Authorization header:
//
//	AWS4-HMAC-SHA256 Credential=C, SignedHeaders=H, Signature=S
func authorization(r *http.Request) (map[string]string, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return nil, malformed("not one Authorization header")
	}
	list, ok := strings.CutPrefix(values[0], algorithm+" ")
	if !ok {
		return nil, malformed("Authorization is not " + algorithm)
	}
	fields := make(map[string]string)
	for field := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := fields[name]; twice {
			return nil, malformed("a field of Authorization occurs twice")
		}
		fields[name] = value
	}
	return fields, nil
}

// signedHeaders returns the headers that list names: h1;h2;h3 in lower case, sorted. Host
// and all x-amz- headers must be among them.
func signedHeaders(r *http.Request, list string) ([]param, error) {
	names := strings.Split(list, ";")
	if list != strings.ToLower(list) || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		return nil, malformed("SignedHeaders is not a list of names in lower case and in order")
	}
	if !slices.Contains(names, "host") {
		return nil, malformed("the host is not signed")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && !slices.Contains(names, name) {
			return nil, malformed("a header that begins with x-amz- is not signed")
		}
	}
	headers := make([]param, len(names))
	for i, name := range names {
		value, ok := headerValue(r, name)
		if !ok {
			return nil, malformed("a signed header is missing")
		}
		headers[i] = param{name, value}
	}
	return headers, nil
}

// headerValue returns the value of a header, or of all with this name. net/http moves some
// of them out of Header.
func headerValue(r *http.Request, name string) (value string, ok bool) {
	switch name {
	case "host":
		return r.Host, r.Host != ""
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10), r.ContentLength >= 0
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = squeeze(v)
	}
	return strings.Join(values, ","), len(values) > 0
}
