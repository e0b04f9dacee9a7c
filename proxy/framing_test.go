package proxy

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

var goodbye = encode(&pgproto3.Terminate{})

// What a client may have said until it says Terminate.
func TestClientFraming(t *testing.T) {
	encoded := func(messages ...pgproto3.FrontendMessage) (b []byte) {
		for _, m := range messages {
			b = append(b, encode(m)...)
		}
		return b
	}
	prepared := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}}
	for name, test := range map[string]struct {
		said     []byte
		asked    int64
		unsynced bool
		lost     bool
	}{
		"nothing":                     {},
		"queries":                     {said: encoded(&pgproto3.Query{String: "select 1"}, &pgproto3.Query{}), asked: 2},
		"a query with X in it":        {said: encoded(&pgproto3.Query{String: "X\x00\x00\x00\x04"}), asked: 1},
		"a statement, synced":         {said: encoded(append(prepared, &pgproto3.Sync{})...), asked: 1},
		"a statement, unsynced":       {said: encoded(prepared...), unsynced: true},
		"flushed":                     {said: encoded(&pgproto3.Query{}, &pgproto3.Flush{}), asked: 1, unsynced: true},
		"a query behind unsynced":     {said: encoded(append(prepared, &pgproto3.Query{})...), asked: 1},
		"COPY":                        {said: encoded(&pgproto3.Query{String: "copy t from stdin"}, &pgproto3.CopyData{Data: make([]byte, 100)}, &pgproto3.CopyDone{}), asked: 1},
		"COPY that fails":             {said: encoded(&pgproto3.Query{String: "copy t from stdin"}, &pgproto3.CopyData{}, &pgproto3.CopyFail{}), asked: 1},
		"a function":                  {said: encoded(&pgproto3.FunctionCall{Function: 1}), asked: 1},
		"a length that is too small":  {said: []byte("Q\x00\x00\x00\x03"), asked: 1, lost: true},
		"a length that is too large":  {said: []byte("Q\x80\x00\x00\x00"), asked: 1, lost: true},
		"something like a Terminate":  {said: []byte("X\x00\x00\x00\x05?"), lost: true},
		"half a Terminate":            {said: goodbye[:3], lost: true},
		"more behind a Terminate":     {said: append(slices.Clone(goodbye), 0), lost: true},
		"a query with a Terminate":    {said: encoded(&pgproto3.Query{}, &pgproto3.Terminate{}), asked: 1, lost: true},
		"a type that is yet to be":    {said: []byte("?\x00\x00\x00\x04"), unsynced: true},
		"a message that is not whole": {said: []byte("Q\x00\x00\x00\xff"), asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var f clientFraming
			early := f.scan(test.said)
			if early || f.asked != test.asked || f.unsynced != test.unsynced || f.lost != test.lost {
				t.Errorf("leaves is %v, and it is %+v", early, f)
			}
			whole := !test.lost && f.rest == 0
			if leaves := f.scan(goodbye); leaves != whole {
				t.Errorf("with its Terminate leaves is %v", leaves)
			}
		})
	}
}

// Messages of a gigabyte are walked through as they come.
func TestFramingOfHugeMessages(t *testing.T) {
	const size = 1<<30 - 1
	var up clientFraming
	var down serverFraming
	up.scan([]byte{query, 0x3f, 0xff, 0xff, 0xff})
	down.scan([]byte{dataRow, 0x3f, 0xff, 0xff, 0xff})
	chunk := bytes.Repeat([]byte{'X'}, 1<<20)
	for left := size - 4; left > 0; {
		n := min(left, len(chunk))
		if up.scan(chunk[:n]) {
			t.Fatal("the client leaves within a message")
		}
		down.scan(chunk[:n])
		left -= n
	}
	if !up.scan(goodbye) {
		t.Errorf("behind it %+v", &up)
	}
	down.scan(encode(ready))
	if !down.idle() || cap(down.body) > 100 {
		t.Errorf("behind it idle is %v, with %d bytes", down.idle(), cap(down.body))
	}
}

func TestServerFraming(t *testing.T) {
	status := &pgproto3.ParameterStatus{Name: "TimeZone", Value: "Asia/Tokyo"}
	for name, test := range map[string]struct {
		said   []any
		ready  int64
		idle   bool
		failed bool
		lost   bool
	}{
		"nothing yet":           {idle: true},
		"an answer":             {said: []any{&pgproto3.DataRow{Values: [][]byte{{1}}}, &pgproto3.CommandComplete{}, ready}, ready: 1, idle: true},
		"in a transaction":      {said: []any{&pgproto3.ReadyForQuery{TxStatus: 'T'}}, ready: 1},
		"in a failed one":       {said: []any{&pgproto3.ErrorResponse{}, &pgproto3.ReadyForQuery{TxStatus: 'E'}}, ready: 1, failed: true},
		"an answer on its way":  {said: []any{ready, &pgproto3.DataRow{}}, ready: 1},
		"an error":              {said: []any{&pgproto3.ErrorResponse{}, ready}, ready: 1, idle: true, failed: true},
		"last words":            {said: []any{ready, &pgproto3.ErrorResponse{}}, ready: 1, failed: true},
		"news":                  {said: []any{ready, status, &pgproto3.NoticeResponse{}, &pgproto3.NotificationResponse{}}, ready: 1, idle: true},
		"half a message":        {said: []any{ready, []byte("A\x00\x00\x00\x10"), []byte{1}}, ready: 1},
		"half a header":         {said: []any{ready, []byte("A\x00")}, ready: 1},
		"a length too small":    {said: []any{[]byte("D\x00\x00\x00\x03")}, lost: true},
		"a length too large":    {said: []any{[]byte("D\xff\xff\xff\xff")}, lost: true},
		"a status too large":    {said: []any{[]byte("S\x00\x00\x40\x05")}, lost: true},
		"a ready without state": {said: []any{[]byte("Z\x00\x00\x00\x04")}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			var said []byte
			for _, m := range test.said {
				if b, ok := m.([]byte); ok {
					said = append(said, b...)
				} else {
					said = append(said, encode(m.(pgproto3.BackendMessage))...)
				}
			}
			f := serverFraming{last: readyForQuery, status: 'I'}
			f.scan(said)
			if f.ready.Load() != test.ready || f.idle() != test.idle || f.failed != test.failed || f.lost != test.lost {
				t.Errorf("got %d ready, idle %v, failed %v, lost %v", f.ready.Load(), f.idle(), f.failed, f.lost)
			}
		})
	}
}

// FuzzFraming: whatever is said, and in whatever pieces it comes, the answer is that of
// the whole.
func FuzzFraming(f *testing.F) {
	f.Add(slices.Concat(encode(&pgproto3.Query{String: "select 1"}), goodbye), []byte{3, 1, 7})
	f.Add(slices.Concat(encode(&pgproto3.Sync{}), goodbye[:3], []byte("no")), []byte{1})
	f.Add(slices.Concat(encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), encode(ready), []byte("X")), []byte{1, 2})
	f.Add([]byte("Z\x00\x00\x00\x05IA\x00\x00\x00\x04E\x00\x00\x00\x04"), []byte{2, 5})
	f.Fuzz(func(t *testing.T, said, sizes []byte) {
		var whole, pieces clientFraming
		whole.scan(said)
		for piece := range inPieces(said, sizes) {
			if pieces.scan(piece) {
				if !bytes.Equal(piece, goodbye) {
					t.Fatalf("leaves with %q", piece)
				}
				pieces.lost = true // as it is taken for the end
			}
		}
		// In one piece a Terminate is not seen to be one unless it is all there is.
		if whole.lost = whole.lost || bytes.Equal(said, goodbye); pieces != whole {
			t.Errorf("of the whole %+v, of pieces %+v", whole, pieces)
		}

		var statuses, statusesOfPieces []byte
		down := serverFraming{noteStatus: func(m message) bool { statuses = append(statuses, m.raw...); return true }}
		down.scan(said)
		downInPieces := serverFraming{noteStatus: func(m message) bool { statusesOfPieces = append(statusesOfPieces, m.raw...); return true }}
		for piece := range inPieces(said, sizes) {
			downInPieces.scan(piece)
		}
		if down.idle() != downInPieces.idle() || down.ready.Load() != downInPieces.ready.Load() || down.failed != downInPieces.failed ||
			down.lost != downInPieces.lost || down.last != downInPieces.last || !bytes.Equal(statuses, statusesOfPieces) {
			t.Errorf("of the whole idle is %v and %q, of pieces %v and %q", down.idle(), statuses, downInPieces.idle(), statusesOfPieces)
		}
	})
}

// inPieces cuts b into pieces of the sizes, over and over.
func inPieces(b, sizes []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := 0; len(b) > 0; i++ {
			n := len(b)
			if len(sizes) > 0 {
				n = min(n, 1+int(sizes[i%len(sizes)]))
			}
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}
