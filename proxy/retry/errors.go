package retry

import (
	"errors"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// MoreSpecificError returns the one of two failures of a login that is more specific about
// its cause. earlier may be nil.
//
// It prefers the later one, with three exceptions. A timeout or a full queue is less specific
// than any failure before it. A broken connection is less specific than an error of the
// server. In a failover, the lack of a writable instance is more specific than other failures.
func MoreSpecificError(earlier, later error) error {
	var before, server *pgwire.ServerError
	fromServer := errors.As(later, &server)
	switch {
	case earlier == nil:
		return later
	case pgwire.ReasonOf(earlier) == pgwire.NotWritable && (!fromServer || server.IsShutdown()):
		return earlier
	case netconn.IsTimeout(later), pgwire.ReasonOf(later) == pgwire.QueueFull, errors.As(earlier, &before) && !fromServer:
		return earlier
	default:
		return later
	}
}
