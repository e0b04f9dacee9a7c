package netconn

import "sync"

// Buffer has room for the payload of the largest TLS record.
type Buffer [16 << 10]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// GetBuffer returns a buffer from a pool. Its content is undefined.
func GetBuffer() *Buffer { return buffers.Get().(*Buffer) }

// PutBuffer returns a buffer to the pool.
func PutBuffer(b *Buffer) { buffers.Put(b) }
