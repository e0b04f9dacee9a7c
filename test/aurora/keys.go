//go:build unix

package aurora

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// The keys that may sign if Cluster.Keys is nil: examples of AWS's documentation.
var (
	DefaultKey = sigv4.Key{
		AccessKeyID:     "AKIAIOSFODNN7EXAMPLE",
		SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	}
	// DefaultSessionKey is a temporary key: its tokens are longer than 1500 bytes.
	DefaultSessionKey = sigv4.Key{
		AccessKeyID:     "ASIAIOSFODNN7EXAMPLE",
		SecretAccessKey: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
		SessionToken:    sessionToken(828),
	}
)

// sessionToken returns what looks like a session token of STS: base64 of n bytes, with the
// usual beginning. It is the same every time.
func sessionToken(n int) string {
	noise := []byte{0x21, 0x0a, 0x09, 0x6f, 0x72, 0x69, 0x67, 0x69, 0x6e, 0x5f, 0x65, 0x63} // "IQoJb3JpZ2luX2Vj"
	block := sha256.Sum256([]byte("session token"))
	for len(noise) < n {
		noise = append(noise, block[:]...)
		block = sha256.Sum256(block[:])
	}
	return base64.StdEncoding.EncodeToString(noise[:n])
}
