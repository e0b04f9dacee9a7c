// Package netconn holds the connections of a proxy: sockets, TLS on top of them,
// half-close and abort, keep-alive and user timeout.
//
// A connection that waits for its peer needs no memory for what may come: neither a
// buffer to read into, nor one of crypto/tls, nor the stack of a goroutine. Three
// techniques make that possible, and plain Go has none of them: system calls past package
// net (rawio_linux.go), access to the record buffer of a tls.Conn (tlsbuffer.go), and
// event loops (loop_linux.go). Connections work without them: see SetPlainIO.
package netconn

import (
	"sync/atomic"
	"time"
)

var plainIO atomic.Bool

// SetPlainIO makes connections that New returns from now on read and write through
// package net and crypto/tls alone. The behavior is the same. Such
// connections need more memory while they are idle, and more time for each message.
func SetPlainIO(on bool) { plainIO.Store(on) }

// LongAgo is a deadline that fails pending reads and writes at once.
var LongAgo = time.Unix(1, 0)
