package proxy

import (
	"bytes"
	"crypto/rand"
	"slices"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// maxGreeting is the most bytes that a server may say at a login whose connection
// is kept: that much is remembered of each.
const maxGreeting = 16 << 10

// greeting is what the clients of a connection are told when their session begins:
// what the server said at its login, with the settings as they are now, and with a
// cancel key that is made for each.
type greeting struct {
	said     []byte // whole messages
	key      []byte // the server's own BackendKeyData; nil if there was none, as of RDS Proxy
	secretAt int    // where in said the client's secret is
}

// newGreeting takes what the server has said from its first message to the first
// ReadyForQuery. It is not ok if the connection cannot be another client's: there
// is too much of it, or a key that no request can name.
func newGreeting(held []byte) (g greeting, ok bool) {
	keys := 0
	for _, m := range pgwire.Messages(held) {
		if m.Type() == pgwire.BackendKeyData {
			g.key = bytes.Clone(m.Body())
			keys++
		}
	}
	g.said = bytes.Clone(held)
	g.locate()
	keyed := keys == 0 || keys == 1 && pgwire.IsCancelKey(g.key)
	return g, keyed && len(held) <= maxGreeting && bytes.HasSuffix(held, idleAndReady)
}

// idleAndReady is a server's ReadyForQuery outside a transaction.
var idleAndReady = []byte("Z\x00\x00\x00\x05I")

// locate finds the secret.
func (g *greeting) locate() {
	for at, m := range pgwire.Messages(g.said) {
		if m.Type() == pgwire.BackendKeyData {
			g.secretAt = at + pgwire.HeaderSize + 4
		}
	}
}

// renew puts a new secret in the place of the last client's, as long as the server's
// own, and returns it with the process's number before it. Without a key it is nil.
func (g *greeting) renew() (key []byte) {
	if g.key == nil {
		return nil
	}
	_, _ = rand.Read(g.said[g.secretAt : g.secretAt+len(g.key)-4]) // it never fails
	return bytes.Clone(g.said[g.secretAt-4 : g.secretAt-4+len(g.key)])
}

// withoutNotices drops what only the first client is to hear.
func (g *greeting) withoutNotices() {
	kept := g.said[:0]
	for _, m := range pgwire.Messages(g.said) {
		if m.Type() != pgwire.NoticeResponse {
			kept = append(kept, m...)
		}
	}
	g.said = kept
	g.locate()
}

// note puts a ParameterStatus in the place of the one with the same name. It reports
// whether there was room for it.
func (g *greeting) note(status pgwire.Message) bool {
	name, _, _ := bytes.Cut(status.Body(), []byte{0})
	begin, end := len(g.said)-len(idleAndReady), len(g.said)-len(idleAndReady)
	for at, m := range pgwire.Messages(g.said) {
		if m.Type() != pgwire.ParameterStatus {
			continue
		}
		if of, _, _ := bytes.Cut(m.Body(), []byte{0}); bytes.Equal(of, name) {
			begin, end = at, at+len(m) // of several the last one counts
		}
	}
	g.said = slices.Replace(g.said, begin, end, status...)
	g.locate()
	return len(g.said) <= maxGreeting
}

// value is a setting's, as the server has reported it.
func (g *greeting) value(name string) (last string) {
	for _, m := range pgwire.Messages(g.said) {
		if m.Type() == pgwire.ParameterStatus {
			if of, value, _ := bytes.Cut(m.Body(), []byte{0}); string(of) == name {
				last = string(bytes.TrimSuffix(value, []byte{0}))
			}
		}
	}
	return last
}
