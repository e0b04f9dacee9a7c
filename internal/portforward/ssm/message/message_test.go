package message

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// The values of the vectors are those of aws/session-manager-plugin,
// src/message/messageparser_test.go. The bytes follow the layout of
// aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go, field by field.
var vectors = []struct {
	name    string
	message Message
	fields  []string // hexadecimal, or a text in quotes
}{
	{
		"data",
		Message{InputStreamData, created, 2, 2, id, Output, []byte("payload")},
		[]string{
			"00000074", `"input_stream_data               "`, "00000001", "0000015e0baa7884", "0000000000000002", "0000000000000002",
			"a508b5f073f31b16", "dd01e56bff48483e",
			"239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5",
			"00000001", "00000007", `"payload"`,
		},
	},
	{
		"no payload",
		Message{OutputStreamData, created, -1, 0, id, Flag, []byte{}},
		[]string{
			"00000074", `"output_stream_data              "`, "00000001", "0000015e0baa7884", "ffffffffffffffff", "0000000000000000",
			"a508b5f073f31b16", "dd01e56bff48483e",
			"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"0000000a", "00000000",
		},
	},
}

var (
	created = time.UnixMilli(1503434274948)
	id      = ID{0xdd, 0x01, 0xe5, 0x6b, 0xff, 0x48, 0x48, 0x3e, 0xa5, 0x08, 0xb5, 0xf0, 0x73, 0xf3, 0x1b, 0x16}
)

func wire(t testing.TB, fields []string) []byte {
	t.Helper()
	var b []byte
	for _, field := range fields {
		if text, quoted := strings.CutPrefix(field, `"`); quoted {
			b = append(b, strings.TrimSuffix(text, `"`)...)
			continue
		}
		decoded, err := hex.DecodeString(field)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, decoded...)
	}
	return b
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			want := wire(t, v.fields)
			if got := v.message.Append(nil); !bytes.Equal(got, want) {
				t.Errorf("got\n%x, want\n%x", got, want)
			}
			got, err := Parse(want)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(&got, &v.message) {
				t.Errorf("got %+v, want %+v", got, v.message)
			}
		})
	}
}

func equal(a, b *Message) bool {
	return a.Type == b.Type && a.Created.Equal(b.Created) && a.SequenceNumber == b.SequenceNumber && a.Flags == b.Flags &&
		a.ID == b.ID && a.PayloadType == b.PayloadType && bytes.Equal(a.Payload, b.Payload)
}

// The gateway's channel_closed has a header without a payload type.
func TestShortHeader(t *testing.T) {
	m := Message{Type: ChannelClosed, ID: id, Payload: Encode(ChannelClosedPayload{Output: "bye"})}
	b := m.Append(nil)
	b = append(b[:payloadOffset:payloadOffset], b[payloadOffset+4:]...)
	b[3] = shortHeaderLength
	got, err := Parse(b)
	if err != nil || got.Type != ChannelClosed || !bytes.Equal(got.Payload, m.Payload) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMalformed(t *testing.T) {
	message := func(change func(b []byte) []byte) []byte { return change(vectors[0].message.Append(nil)) }
	set := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	for name, test := range map[string]struct {
		input []byte
		want  error
	}{
		"empty":                {nil, ErrTruncated},
		"without a version":    {message(func(b []byte) []byte { return b[:versionOffset-1] }), ErrTruncated},
		"without a length":     {message(func(b []byte) []byte { return b[:HeaderSize-1] }), ErrTruncated},
		"header too long":      {message(set(0, 0xff)), ErrHeaderLength},
		"header too short":     {message(set(3, 0)), ErrHeaderLength},
		"payload too short":    {message(func(b []byte) []byte { return b[:len(b)-1] }), ErrLength},
		"payload too long":     {message(func(b []byte) []byte { return append(b, 0) }), ErrLength},
		"payload length huge":  {message(set(116, 0xff)), ErrLength},
		"payload altered":      {message(set(HeaderSize, 'P')), ErrDigest},
		"digest altered":       {message(set(digestOffset, 0)), ErrDigest},
		"short header, cut":    {message(func(b []byte) []byte { b[3] = shortHeaderLength; return b[:115] }), ErrTruncated},
		"empty type and cut":   {make([]byte, versionOffset), ErrHeaderLength},
		"long, without header": {make([]byte, 4096), ErrHeaderLength},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Parse(test.input); !errors.Is(err, test.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// AWS's client accepts these.
func TestTolerated(t *testing.T) {
	pause := make([]byte, versionOffset) // no length, no digest
	copy(pause[typeOffset:], PausePublication)
	if m, err := Parse(pause); err != nil || m.Type != PausePublication {
		t.Errorf("pause_publication: got %+v, %v", m, err)
	}
	b := vectors[0].message.Append(nil)
	b[versionOffset] = 7
	if _, err := Parse(b); err != nil {
		t.Errorf("schema version: %v", err)
	}
	b = vectors[1].message.Append(nil)
	b[digestOffset] = 0
	if _, err := Parse(b); err != nil {
		t.Errorf("digest of no payload: %v", err)
	}
	b = vectors[0].message.Append(nil)
	copy(b[typeOffset:versionOffset], "acknowledge\x00\x00\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	if m, err := Parse(b); err != nil || m.Type != Acknowledge {
		t.Errorf("type with NUL: got %q, %v", m.Type, err)
	}
}

// The JSON is that of aws/session-manager-plugin: src/service/service.go and src/message.
func TestPayloads(t *testing.T) {
	for _, test := range []struct {
		payload any
		want    string
	}{
		{
			OpenChannel{"1.0", "R", "T", "C", "1.2"},
			`{"MessageSchemaVersion":"1.0","RequestId":"R","TokenValue":"T","ClientId":"C","ClientVersion":"1.2"}`,
		},
		{
			Acknowledgement{OutputStreamData, id.String(), 7, true},
			`{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":"dd01e56b-ff48-483e-a508-b5f073f31b16",` +
				`"AcknowledgedMessageSequenceNumber":7,"IsSequentialMessage":true}`,
		},
		{
			HandshakeRequestPayload{"3.3.0.0", []RequestedAction{{SessionType, Encode(SessionTypeParameters{SessionType: PortSession})}}},
			`{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port"}}]}`,
		},
		{
			HandshakeResponsePayload{"1.2", []ProcessedAction{{ActionType: SessionType, ActionStatus: Success}}, nil},
			`{"ClientVersion":"1.2","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}`,
		},
		{HandshakeCompletePayload{time.Millisecond, "hello"}, `{"HandshakeTimeToComplete":1000000,"CustomerMessage":"hello"}`},
		{
			ChannelClosedPayload{"M", "1", "D", "S", ChannelClosed, 1, "bye"},
			`{"MessageId":"M","CreatedDate":"1","DestinationId":"D","SessionId":"S","MessageType":"channel_closed","SchemaVersion":1,"Output":"bye"}`,
		},
	} {
		if got := string(Encode(test.payload)); got != test.want {
			t.Errorf("got\n%s, want\n%s", got, test.want)
		}
	}
}

func TestAcknowledge(t *testing.T) {
	ack := NewAcknowledge(&Message{Type: OutputStreamData, SequenceNumber: 42, ID: id}, created)
	m, err := Parse(ack.Append(nil))
	if err != nil || m.Type != Acknowledge || m.SequenceNumber != 0 || m.Flags != 3 || m.PayloadType != 0 {
		t.Fatalf("got %+v, %v", m, err)
	}
	var got Acknowledgement
	if err := json.Unmarshal(m.Payload, &got); err != nil || got != (Acknowledgement{OutputStreamData, id.String(), 42, true}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFlags(t *testing.T) {
	if got := TerminateSession.Encode(); !bytes.Equal(got, []byte{0, 0, 0, 2}) {
		t.Errorf("got %x", got)
	}
	if got, err := ParseFlag([]byte{0, 0, 0, 3}); got != ConnectToPortError || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	for _, payload := range [][]byte{nil, {3}, {0, 0, 0, 0, 3}} {
		if _, err := ParseFlag(payload); err == nil {
			t.Errorf("%x: no error", payload)
		}
	}
}

func TestNewID(t *testing.T) {
	a, b := NewID(), NewID()
	if text := a.String(); a == b || len(text) != 36 || text[14] != '4' || !strings.ContainsRune("89ab", rune(text[19])) {
		t.Errorf("got %s and %s", a, b)
	}
}

// FuzzParse checks that a message that Parse accepts is encoded as it came, except for what
// Parse ignores.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(wire(f, v.fields))
	}
	ack := NewAcknowledge(&vectors[1].message, created).Append(nil)
	f.Add(ack)
	f.Add(ack[:HeaderSize])
	f.Add(append([]byte("\x00\x00\x00\x00"+string(PausePublication)), make([]byte, versionOffset)...))
	short := bytes.Clone(ack)
	short[3] = shortHeaderLength
	f.Add(short)
	f.Fuzz(func(t *testing.T, input []byte) {
		m, err := Parse(input)
		if err != nil || m.Type == StartPublication || m.Type == PausePublication {
			return
		}
		again, err := Parse(m.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !equal(&again, &m) && !m.Created.IsZero() {
			t.Errorf("got %+v, want %+v", again, m)
		}
	})
}
