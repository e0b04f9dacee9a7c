package retry

import (
	"errors"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// MoreSpecificError returns the one of two failures of a login that says more about its
// cause. earlier may be nil.
//
// It is the later one, with these exceptions: a timeout or a full queue says less than any
// failure before it; a broken connection says less than an error of the server; and in a
// failover, the lack of a writable instance says more than the failures around it.
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
