package pool

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

var (
	authOK = &pgproto3.AuthenticationOk{}
	ready  = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	key    = &pgproto3.BackendKeyData{ProcessID: 4711, SecretKey: []byte{1, 2, 3, 4}}
)

// The next client gets the messages of the first one without the notices, with the current
// settings in their places, and with its own cancel key.
func TestStartupReply(t *testing.T) {
	status := func(name, value string) []byte {
		return pgwire.Encode(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	negotiated := pgwire.Encode(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 2, UnrecognizedOptions: []string{"_pq_.x"}})
	notice := pgwire.Encode(&pgproto3.NoticeResponse{Message: "hello"})
	for name, k := range map[string]*pgproto3.BackendKeyData{
		"no key":   nil,
		"short":    {ProcessID: 4711, SecretKey: []byte{1, 2, 3, 4}},
		"long":     {ProcessID: 4711, SecretKey: bytes.Repeat([]byte{1}, 32)},
		"the most": {ProcessID: 4711, SecretKey: bytes.Repeat([]byte{1}, pgwire.MaxCancelKey)},
	} {
		t.Run(name, func(t *testing.T) {
			given := func(own *pgproto3.BackendKeyData) []byte {
				if own == nil {
					return nil
				}
				return pgwire.Encode(own)
			}
			messages := slices.Concat(negotiated, pgwire.Encode(authOK), status("a", "1"), notice, status("b", "2"), given(k), pgwire.Encode(ready))
			r, ok := newStartupReply(messages)
			if !ok {
				t.Fatal("rejected")
			}
			secrets := map[string]bool{}
			renewed := func() []byte {
				made := r.newCancelKey()
				if k == nil {
					if made != nil {
						t.Error("made a key for a server without one")
					}
					return nil
				}
				if len(made) != 4+len(k.SecretKey) || !bytes.Equal(made[:4], r.serverKey[:4]) {
					t.Fatalf("made the key %x", made)
				}
				secrets[string(made[4:])] = true
				return pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: k.ProcessID, SecretKey: made[4:]})
			}
			made := renewed()
			if want := slices.Concat(negotiated, pgwire.Encode(authOK), status("a", "1"), notice, status("b", "2"), made, pgwire.Encode(ready)); !bytes.Equal(r.messages, want) {
				t.Errorf("first reply %q, want %q", r.messages, want)
			}
			r.removeNotices()
			for _, s := range [][]byte{status("a", "longer than before"), status("c", "new"), status("b", ""), status("b", "")} {
				if !r.setParameter(s) {
					t.Errorf("%q rejected", s)
				}
			}
			made = renewed()
			want := slices.Concat(negotiated, pgwire.Encode(authOK), status("a", "longer than before"), status("b", ""), made, status("c", "new"), pgwire.Encode(ready))
			if !bytes.Equal(r.messages, want) {
				t.Errorf("next reply %q, want %q", r.messages, want)
			}
			if k != nil && (!bytes.Equal(r.serverKey, given(k)[pgwire.HeaderSize:]) || len(secrets) != 2 || secrets[string(k.SecretKey)]) {
				t.Errorf("the server's key is %x, %d secrets", r.serverKey, len(secrets))
			}
			if r.parameter("a") != "longer than before" || r.parameter("b") != "" || r.parameter("c") != "new" || r.parameter("d") != "" {
				t.Error("got other values")
			}
		})
	}
}

// A reply that cannot be replayed is not kept.
func TestStartupRepliesThatAreNotKept(t *testing.T) {
	long := &pgproto3.ParameterStatus{Name: "a", Value: string(bytes.Repeat([]byte("v"), maxStartupReply))}
	for name, messages := range map[string][]byte{
		"a key without a secret": slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: 1}), pgwire.Encode(ready)),
		"a key too long":         slices.Concat(pgwire.Encode(authOK), pgwire.Encode(&pgproto3.BackendKeyData{SecretKey: make([]byte, pgwire.MaxCancelKey+1)}), pgwire.Encode(ready)),
		"two keys":               slices.Concat(pgwire.Encode(authOK), pgwire.Encode(key), pgwire.Encode(key), pgwire.Encode(ready)),
		"too much":               slices.Concat(pgwire.Encode(authOK), pgwire.Encode(long), pgwire.Encode(ready)),
		"not idle":               slices.Concat(pgwire.Encode(authOK), pgwire.Encode(key), pgwire.Encode(&pgproto3.ReadyForQuery{TxStatus: 'T'})),
		"nothing":                nil,
	} {
		if _, ok := newStartupReply(messages); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	r, _ := newStartupReply(slices.Concat(pgwire.Encode(authOK), pgwire.Encode(ready)))
	if r.setParameter(pgwire.Encode(long)) {
		t.Error("parameter accepted that exceeds the limit")
	}
}

// Of two values the last one counts.
func TestStartupReplyWithTwoValues(t *testing.T) {
	status := func(value string) []byte {
		return pgwire.Encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: value})
	}
	r, ok := newStartupReply(slices.Concat(pgwire.Encode(authOK), status("A"), status("B"), pgwire.Encode(ready)))
	if !ok || r.parameter("TimeZone") != "B" {
		t.Fatalf("value %q", r.parameter("TimeZone"))
	}
	r.setParameter(status("A"))
	if r.parameter("TimeZone") != "A" {
		t.Errorf("after another A it has %q", r.parameter("TimeZone"))
	}
}
