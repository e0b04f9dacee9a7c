package proxy

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// The next client hears what the first did, but for notices, with the settings as they
// are by then, in their places, and with a key of its own.
func TestGreeting(t *testing.T) {
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
			held := slices.Concat(negotiated, pgwire.Encode(okay), status("a", "1"), notice, status("b", "2"), given(k), pgwire.Encode(ready))
			g, ok := newGreeting(held)
			if !ok {
				t.Fatal("not taken")
			}
			secrets := map[string]bool{}
			renewed := func() []byte {
				made := g.renew()
				if k == nil {
					if made != nil {
						t.Error("made a key where there is none")
					}
					return nil
				}
				if len(made) != 4+len(k.SecretKey) || !bytes.Equal(made[:4], g.key[:4]) {
					t.Fatalf("made the key %x", made)
				}
				secrets[string(made[4:])] = true
				return pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: k.ProcessID, SecretKey: made[4:]})
			}
			made := renewed()
			if want := slices.Concat(negotiated, pgwire.Encode(okay), status("a", "1"), notice, status("b", "2"), made, pgwire.Encode(ready)); !bytes.Equal(g.said, want) {
				t.Errorf("the first is told %q, want %q", g.said, want)
			}
			g.withoutNotices()
			for _, s := range [][]byte{status("a", "longer than before"), status("c", "new"), status("b", ""), status("b", "")} {
				if !g.note(s) {
					t.Errorf("%q not noted", s)
				}
			}
			made = renewed()
			want := slices.Concat(negotiated, pgwire.Encode(okay), status("a", "longer than before"), status("b", ""), made, status("c", "new"), pgwire.Encode(ready))
			if !bytes.Equal(g.said, want) {
				t.Errorf("the next is told %q, want %q", g.said, want)
			}
			if k != nil && (!bytes.Equal(g.key, given(k)[pgwire.HeaderSize:]) || len(secrets) != 2 || secrets[string(k.SecretKey)]) {
				t.Errorf("the server's key is %x, %d secrets", g.key, len(secrets))
			}
			if g.value("a") != "longer than before" || g.value("b") != "" || g.value("c") != "new" || g.value("d") != "" {
				t.Error("got other values")
			}
		})
	}
}

// What cannot be told again is not kept.
func TestGreetingsThatAreNotKept(t *testing.T) {
	long := &pgproto3.ParameterStatus{Name: "a", Value: string(bytes.Repeat([]byte("v"), maxGreeting))}
	for name, held := range map[string][]byte{
		"a key without a secret": slices.Concat(pgwire.Encode(okay), pgwire.Encode(&pgproto3.BackendKeyData{ProcessID: 1}), pgwire.Encode(ready)),
		"a key too long":         slices.Concat(pgwire.Encode(okay), pgwire.Encode(&pgproto3.BackendKeyData{SecretKey: make([]byte, pgwire.MaxCancelKey+1)}), pgwire.Encode(ready)),
		"two keys":               slices.Concat(pgwire.Encode(okay), pgwire.Encode(key), pgwire.Encode(key), pgwire.Encode(ready)),
		"too much":               slices.Concat(pgwire.Encode(okay), pgwire.Encode(long), pgwire.Encode(ready)),
		"not idle":               slices.Concat(pgwire.Encode(okay), pgwire.Encode(key), pgwire.Encode(&pgproto3.ReadyForQuery{TxStatus: 'T'})),
		"nothing":                nil,
	} {
		if _, ok := newGreeting(held); ok {
			t.Errorf("%s: taken", name)
		}
	}
	g, _ := newGreeting(slices.Concat(pgwire.Encode(okay), pgwire.Encode(ready)))
	if g.note(pgwire.Encode(long)) {
		t.Error("noted more than there is room for")
	}
}

// Of two values the client has the last.
func TestGreetingWithTwoValues(t *testing.T) {
	status := func(value string) []byte {
		return pgwire.Encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: value})
	}
	g, ok := newGreeting(slices.Concat(pgwire.Encode(okay), status("A"), status("B"), pgwire.Encode(ready)))
	if !ok || g.value("TimeZone") != "B" {
		t.Fatalf("of A and B it has %q", g.value("TimeZone"))
	}
	g.note(status("A"))
	if g.value("TimeZone") != "A" {
		t.Errorf("after another A it has %q", g.value("TimeZone"))
	}
}
