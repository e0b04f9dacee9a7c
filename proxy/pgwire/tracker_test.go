package pgwire

import (
	"bytes"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

var (
	terminateBytes = Encode(&pgproto3.Terminate{})
	ready          = &pgproto3.ReadyForQuery{TxStatus: 'I'}
)

func TestFrontendTracker(t *testing.T) {
	encoded := func(messages ...pgproto3.FrontendMessage) (b []byte) {
		for _, m := range messages {
			b = append(b, Encode(m)...)
		}
		return b
	}
	prepared := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}}
	for name, test := range map[string]struct {
		stream    []byte
		requests  int64
		needsSync bool
		lost      bool
	}{
		"nothing":                           {},
		"queries":                           {stream: encoded(&pgproto3.Query{String: "select 1"}, &pgproto3.Query{}), requests: 2},
		"query that contains X":             {stream: encoded(&pgproto3.Query{String: "X\x00\x00\x00\x04"}), requests: 1},
		"extended query with Sync":          {stream: encoded(append(prepared, &pgproto3.Sync{})...), requests: 1},
		"extended query without Sync":       {stream: encoded(prepared...), needsSync: true},
		"Flush after Sync":                  {stream: encoded(append(prepared, &pgproto3.Sync{}, &pgproto3.Flush{})...), requests: 1},
		"Flush without Sync":                {stream: encoded(append(prepared, &pgproto3.Flush{})...), needsSync: true},
		"Flush with a body":                 {stream: []byte("H\x00\x00\x00\x05?"), needsSync: true},
		"Query after messages without Sync": {stream: encoded(append(prepared, &pgproto3.Query{})...), requests: 1},
		"COPY":                              {stream: encoded(&pgproto3.Query{String: "copy t from stdin"}, &pgproto3.CopyData{Data: make([]byte, 100)}, &pgproto3.CopyDone{}), requests: 1},
		"CopyFail":                          {stream: encoded(&pgproto3.Query{String: "copy t from stdin"}, &pgproto3.CopyData{}, &pgproto3.CopyFail{}), requests: 1},
		"FunctionCall":                      {stream: encoded(&pgproto3.FunctionCall{Function: 1}), requests: 1},
		"length too small":                  {stream: []byte("Q\x00\x00\x00\x03"), requests: 1, lost: true},
		"length too large":                  {stream: []byte("Q\x80\x00\x00\x00"), requests: 1, lost: true},
		"Terminate with a body":             {stream: []byte("X\x00\x00\x00\x05?"), lost: true},
		"half a Terminate":                  {stream: terminateBytes[:3], lost: true},
		"bytes after a Terminate":           {stream: append(slices.Clone(terminateBytes), 0), lost: true},
		"Query and Terminate in one piece":  {stream: encoded(&pgproto3.Query{}, &pgproto3.Terminate{}), requests: 1, lost: true},
		"unknown type":                      {stream: []byte("?\x00\x00\x00\x04"), needsSync: true},
		"incomplete message":                {stream: []byte("Q\x00\x00\x00\xff"), requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var f FrontendTracker
			early := f.Scan(test.stream)
			if early || f.requests != test.requests || f.needsSync != test.needsSync || f.lost != test.lost {
				t.Errorf("Terminate reported %v, tracker %+v", early, f)
			}
			whole := !test.lost && f.rest == 0
			if terminate := f.Scan(terminateBytes); terminate != whole {
				t.Errorf("Terminate reported %v", terminate)
			}
		})
	}
}

// A message of a gigabyte takes no memory.
func TestTrackersFollowHugeMessages(t *testing.T) {
	const size = 1<<30 - 1
	var up FrontendTracker
	down := NewBackendTracker(nil)
	up.Scan([]byte{Query, 0x3f, 0xff, 0xff, 0xff})
	down.Scan([]byte{DataRow, 0x3f, 0xff, 0xff, 0xff})
	chunk := bytes.Repeat([]byte{'X'}, 1<<20)
	for left := size - 4; left > 0; {
		n := min(left, len(chunk))
		if up.Scan(chunk[:n]) {
			t.Fatal("Terminate reported within a message")
		}
		down.Scan(chunk[:n])
		left -= n
	}
	if !up.Scan(terminateBytes) {
		t.Errorf("after it %+v", &up)
	}
	down.Scan(Encode(ready))
	if !down.Idle() || cap(down.body) > 100 {
		t.Errorf("after it idle is %v, with %d bytes", down.Idle(), cap(down.body))
	}
}

func TestBackendTracker(t *testing.T) {
	status := &pgproto3.ParameterStatus{Name: "TimeZone", Value: "Asia/Tokyo"}
	for name, test := range map[string]struct {
		stream []any
		ready  int64
		idle   bool
		failed bool
		lost   bool
	}{
		"nothing":                      {idle: true},
		"answer":                       {stream: []any{&pgproto3.DataRow{Values: [][]byte{{1}}}, &pgproto3.CommandComplete{}, ready}, ready: 1, idle: true},
		"transaction":                  {stream: []any{&pgproto3.ReadyForQuery{TxStatus: 'T'}}, ready: 1},
		"failed transaction":           {stream: []any{&pgproto3.ErrorResponse{}, &pgproto3.ReadyForQuery{TxStatus: 'E'}}, ready: 1, failed: true},
		"incomplete answer":            {stream: []any{ready, &pgproto3.DataRow{}}, ready: 1},
		"error":                        {stream: []any{&pgproto3.ErrorResponse{}, ready}, ready: 1, idle: true, failed: true},
		"error after ReadyForQuery":    {stream: []any{ready, &pgproto3.ErrorResponse{}}, ready: 1, failed: true},
		"asynchronous messages":        {stream: []any{ready, status, &pgproto3.NoticeResponse{}, &pgproto3.NotificationResponse{}}, ready: 1, idle: true},
		"half a message":               {stream: []any{ready, []byte("A\x00\x00\x00\x10"), []byte{1}}, ready: 1},
		"half a header":                {stream: []any{ready, []byte("A\x00")}, ready: 1},
		"length too small":             {stream: []any{[]byte("D\x00\x00\x00\x03")}, lost: true},
		"length too large":             {stream: []any{[]byte("D\xff\xff\xff\xff")}, lost: true},
		"ParameterStatus too large":    {stream: []any{[]byte("S\x00\x00\x40\x05")}, lost: true},
		"ReadyForQuery without status": {stream: []any{[]byte("Z\x00\x00\x00\x04")}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			var stream []byte
			for _, m := range test.stream {
				if b, ok := m.([]byte); ok {
					stream = append(stream, b...)
				} else {
					stream = append(stream, Encode(m.(pgproto3.BackendMessage))...)
				}
			}
			f := NewBackendTracker(nil)
			f.Scan(stream)
			if f.ready.Load() != test.ready || f.Idle() != test.idle || f.failed != test.failed || f.lost != test.lost {
				t.Errorf("got %d ready, idle %v, failed %v, lost %v", f.ready.Load(), f.Idle(), f.failed, f.lost)
			}
		})
	}
}

// FuzzTrackers checks that the pieces in which a stream arrives make no difference.
func FuzzTrackers(f *testing.F) {
	f.Add(slices.Concat(Encode(&pgproto3.Query{String: "select 1"}), terminateBytes), []byte{3, 1, 7})
	f.Add(slices.Concat(Encode(&pgproto3.Sync{}), terminateBytes[:3], []byte("no")), []byte{1})
	f.Add(slices.Concat(Encode(&pgproto3.ParameterStatus{Name: "a", Value: "b"}), Encode(ready), []byte("X")), []byte{1, 2})
	f.Add([]byte("Z\x00\x00\x00\x05IA\x00\x00\x00\x04E\x00\x00\x00\x04"), []byte{2, 5})
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		var whole, pieces FrontendTracker
		whole.Scan(stream)
		for piece := range inPieces(stream, sizes) {
			if pieces.Scan(piece) {
				if !bytes.Equal(piece, terminateBytes) {
					t.Fatalf("Terminate reported for %q", piece)
				}
				pieces.lost = true // the session ends here
			}
		}
		// Scan reports a Terminate only if it is all of the piece.
		if whole.lost = whole.lost || bytes.Equal(stream, terminateBytes); pieces != whole {
			t.Errorf("whole %+v, in pieces %+v", whole, pieces)
		}

		var statuses, statusesOfPieces []byte
		down := NewBackendTracker(func(m Message) bool { statuses = append(statuses, m...); return true })
		down.Scan(stream)
		downInPieces := NewBackendTracker(func(m Message) bool { statusesOfPieces = append(statusesOfPieces, m...); return true })
		for piece := range inPieces(stream, sizes) {
			downInPieces.Scan(piece)
		}
		if down.Idle() != downInPieces.Idle() || down.ready.Load() != downInPieces.ready.Load() || down.failed != downInPieces.failed ||
			down.lost != downInPieces.lost || down.last != downInPieces.last || !bytes.Equal(statuses, statusesOfPieces) {
			t.Errorf("whole: idle %v, %q; in pieces: %v, %q", down.Idle(), statuses, downInPieces.Idle(), statusesOfPieces)
		}
	})
}

// inPieces cuts b into pieces of the sizes, repeating them.
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
