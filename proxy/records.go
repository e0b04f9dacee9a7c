package proxy

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"unsafe"
)

// A tls.Conn keeps the memory of the largest record it ever had, which for most
// of a server's records is 18 KiB, until it is closed (golang/go#43563): more than
// all else that an idle session needs. So it is lent memory while there is
// something to read, and only then. That takes a field that crypto/tls does not
// export. If it is not there, or of another type, nothing is lent.
var rawInput, lends = func() (field reflect.StructField, ok bool) {
	field, ok = reflect.TypeFor[tls.Conn]().FieldByName("rawInput")
	return field, ok && field.Type == reflect.TypeFor[bytes.Buffer]()
}()

// recordMemory is room for the largest record and for what crypto/tls wants behind
// it (readFromUntil), twice: a bytes.Buffer that is more than half full does not move
// what is in it to the front, but grows.
type recordMemory [2 * (5 + 16<<10 + 256 + bytes.MinRead)]byte

var records = sync.Pool{New: func() any { return new(recordMemory) }}

// recordInput is where a tls.Conn has its incoming records.
type recordInput struct {
	buffer *bytes.Buffer // nil: no TLS, or its input is not to be had
	lent   *recordMemory
}

func inputOf(conn *tls.Conn) recordInput {
	if !lends {
		return recordInput{}
	}
	return recordInput{buffer: (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(conn), rawInput.Offset))} //nolint:gosec // of a field of that type
}

// lend gives it memory. Only who reads from the connection may call that.
func (r *recordInput) lend() {
	if r.buffer != nil && r.lent == nil && r.buffer.Len() == 0 {
		r.lent = records.Get().(*recordMemory)
		*r.buffer = *bytes.NewBuffer(r.lent[:0])
	}
}

// reclaim takes back what was lent, and what it had of its own, unless there is
// a part of a record in it. The connection must have been read from until there
// was nothing more.
func (r *recordInput) reclaim() {
	if r.buffer == nil || r.buffer.Len() > 0 {
		return
	}
	*r.buffer = bytes.Buffer{}
	if r.lent != nil {
		records.Put(r.lent)
		r.lent = nil
	}
}
