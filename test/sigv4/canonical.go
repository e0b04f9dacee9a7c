package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// emptyPayload is the SHA-256 of no bytes: a GET has no body.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// sign computes the signature that r must have if it was signed with secret.
func (r *request) sign(secret string) string {
	return sign(secret, r.claims.SignedAt.Format(timeFormat), r.scope, r.canonical)
}

// canonicalRequest is step 1 of the manual. path is as received. headers are the signed
// ones, sorted by name, with names in lower case.
func canonicalRequest(method, path string, query, headers []param, payloadHash string) string {
	var lines strings.Builder
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = h.name
		lines.WriteString(h.name + ":" + squeeze(h.value) + "\n")
	}
	return strings.Join([]string{
		method,
		canonicalPath(path),
		canonicalQuery(query),
		lines.String(),
		strings.Join(names, ";"),
		payloadHash,
	}, "\n")
}

// squeeze trims spaces at both ends of a header's value, and reduces others to one.
func squeeze(value string) string {
	return strings.Join(strings.FieldsFunc(value, func(c rune) bool { return c == ' ' }), " ")
}

// sign is steps 2 to 4 of the manual: the string to sign has the hash of the canonical
// request, and is signed with a key derived from the secret and every part of the scope.
func sign(secret, timestamp, scope, canonicalRequest string) string {
	hash := sha256.Sum256([]byte(canonicalRequest))
	toSign := strings.Join([]string{algorithm, timestamp, scope, hex.EncodeToString(hash[:])}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, toSign))
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// canonicalPath encodes the path once more, as all services but S3 require.
func canonicalPath(path string) string {
	if path == "" {
		return "/"
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = encode(segment)
	}
	return strings.Join(segments, "/")
}

// canonicalQuery sorts by encoded name, then by encoded value.
func canonicalQuery(params []param) string {
	encoded := make([]param, len(params))
	for i, p := range params {
		encoded[i] = param{encode(p.name), encode(p.value)}
	}
	slices.SortFunc(encoded, func(a, b param) int {
		if order := strings.Compare(a.name, b.name); order != 0 {
			return order
		}
		return strings.Compare(a.value, b.value)
	})
	pairs := make([]string, len(encoded))
	for i, p := range encoded {
		pairs[i] = p.name + "=" + p.value
	}
	return strings.Join(pairs, "&")
}

// encode is the manual's UriEncode: every byte but the unreserved characters of RFC 3986
// section 2.3 becomes %XX, in upper case. The escapers of net/url leave other characters
// unescaped.
func encode(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}
