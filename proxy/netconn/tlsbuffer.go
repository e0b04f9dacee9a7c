package netconn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// testedGo lists the releases of Go whose crypto/tls tlsBuffer was tested with. Others
// do without it. To add one: read readFromUntil, readRecordOrCCS and Read in its
// crypto/tls/conn.go, and run the tests of package proxy and below with it.
var testedGo = []string{"go1.26"}

// isTested reports whether a version, as runtime.Version returns it, is of a release
// on the list.
func isTested(version string) bool {
	version, _, _ = strings.Cut(version, " ") // "go1.26.1 X:experiment"
	return slices.ContainsFunc(testedGo, func(release string) bool {
		return version == release || strings.HasPrefix(version, release+".")
	})
}

// rawInput is the field of a tls.Conn that holds incoming records. crypto/tls does not
// export it.
var rawInput, hasRawInput = func() (field reflect.StructField, ok bool) {
	field, ok = reflect.TypeFor[tls.Conn]().FieldByName("rawInput")
	return field, ok && field.Type == reflect.TypeFor[bytes.Buffer]() && isTested(runtime.Version())
}()

// recordMemory has room for the largest record and for what crypto/tls adds to it
// (readFromUntil), twice: a bytes.Buffer that is more than half full grows instead of
// moving its content to the front.
type recordMemory [2 * (5 + 16<<10 + 256 + bytes.MinRead)]byte

var recordMemories = sync.Pool{New: func() any { return new(recordMemory) }}

// tlsBuffer lends a tls.Conn memory for incoming records while there is something to
// read. By itself, a tls.Conn keeps the memory of the largest record it ever received
// until it is closed (golang/go#43563). That is 18 KiB for most connections to a
// server, more than everything else that an idle session needs.
//
// The zero value does nothing.
type tlsBuffer struct {
	input *bytes.Buffer // rawInput of the tls.Conn
	lent  *recordMemory
}

func newTLSBuffer(conn *tls.Conn, plain bool) tlsBuffer {
	if plain || !hasRawInput {
		return tlsBuffer{}
	}
	return tlsBuffer{input: (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(conn), rawInput.Offset))} //nolint:gosec // a field of that type, by hasRawInput
}

// attachBuffer lends memory, unless some is lent already. Only the reader of the
// connection may call it.
func (t *tlsBuffer) attachBuffer() {
	if t.input != nil && t.lent == nil && t.input.Len() == 0 {
		t.lent = recordMemories.Get().(*recordMemory)
		*t.input = *bytes.NewBuffer(t.lent[:0])
	}
}

// releaseBuffer takes back what was lent, and drops what the tls.Conn has allocated
// itself, unless a part of a record is in it. It must follow a Read that has failed:
// before that, the tls.Conn may hold decrypted data in the same memory.
func (t *tlsBuffer) releaseBuffer() {
	if t.input == nil || t.input.Len() > 0 {
		return
	}
	*t.input = bytes.Buffer{}
	if t.lent != nil {
		recordMemories.Put(t.lent)
		t.lent = nil
	}
}
