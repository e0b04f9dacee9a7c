package pool

import (
	"bytes"
	"crypto/rand"
	"slices"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// maxStartupReply is the maximum size of a server's messages at a login. A connection with
// more is not reused.
const maxStartupReply = 16 << 10

// startupReply is what each client of a connection receives when its session begins. It is the
// server's messages at the login, with the current settings, and with a cancel key that is
// made for the client.
type startupReply struct {
	messages  []byte // whole ones
	serverKey []byte // the server's own BackendKeyData; nil if there was none, as of RDS Proxy
	secretAt  int    // where in messages the client's secret is
}

// newStartupReply copies what the server has sent up to and with ReadyForQuery. It is not
// ok if that cannot be replayed: there is too much of it, or a key that no CancelRequest can
// name.
func newStartupReply(messages []byte) (r startupReply, ok bool) {
	keys := 0
	for _, m := range pgwire.Messages(messages) {
		if m.Type() == pgwire.BackendKeyData {
			r.serverKey = bytes.Clone(m.Body())
			keys++
		}
	}
	r.messages = bytes.Clone(messages)
	r.locateSecret()
	keyOK := keys == 0 || keys == 1 && pgwire.IsCancelKey(r.serverKey)
	return r, keyOK && len(messages) <= maxStartupReply && bytes.HasSuffix(messages, readyIdle)
}

// readyIdle is a ReadyForQuery outside a transaction.
var readyIdle = []byte("Z\x00\x00\x00\x05I")

func (r *startupReply) locateSecret() {
	for at, m := range pgwire.Messages(r.messages) {
		if m.Type() == pgwire.BackendKeyData {
			r.secretAt = at + pgwire.HeaderSize + 4
		}
	}
}

// newCancelKey replaces the last client's secret by a random one of the same length, and
// returns it after the process ID. Without a key it returns nil.
func (r *startupReply) newCancelKey() (key []byte) {
	if r.serverKey == nil {
		return nil
	}
	_, _ = rand.Read(r.messages[r.secretAt : r.secretAt+len(r.serverKey)-4]) // it never fails
	return bytes.Clone(r.messages[r.secretAt-4 : r.secretAt-4+len(r.serverKey)])
}

// removeNotices removes the NoticeResponses, which were for the first client.
func (r *startupReply) removeNotices() {
	kept := r.messages[:0]
	for _, m := range pgwire.Messages(r.messages) {
		if m.Type() != pgwire.NoticeResponse {
			kept = append(kept, m...)
		}
	}
	r.messages = kept
	r.locateSecret()
}

// setParameter replaces the ParameterStatus of the same name. It reports whether there was
// room for it.
func (r *startupReply) setParameter(status pgwire.Message) bool {
	name, _, _ := bytes.Cut(status.Body(), []byte{0})
	begin, end := len(r.messages)-len(readyIdle), len(r.messages)-len(readyIdle)
	for at, m := range pgwire.Messages(r.messages) {
		if m.Type() != pgwire.ParameterStatus {
			continue
		}
		if other, _, _ := bytes.Cut(m.Body(), []byte{0}); bytes.Equal(other, name) {
			begin, end = at, at+len(m) // the last one of a name counts
		}
	}
	r.messages = slices.Replace(r.messages, begin, end, status...)
	r.locateSecret()
	return len(r.messages) <= maxStartupReply
}

// parameter returns the value that the server has reported last.
func (r *startupReply) parameter(name string) (value string) {
	for _, m := range pgwire.Messages(r.messages) {
		if m.Type() == pgwire.ParameterStatus {
			if other, v, _ := bytes.Cut(m.Body(), []byte{0}); string(other) == name {
				value = string(bytes.TrimSuffix(v, []byte{0}))
			}
		}
	}
	return value
}
