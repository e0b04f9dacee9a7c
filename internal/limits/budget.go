// Package limits divides the limited resources of the process: file descriptors and memory.
package limits

const (
	// MaxAdminConns is the maximum number of connections to the admin server.
	MaxAdminConns = 128
	// maxPending is the maximum number of connections of an endpoint that have not sent a
	// startup packet.
	maxPending = 1000
	// reserved is the number of descriptors kept for listeners, DNS, AWS credentials, cancel
	// requests, and clients that are rejected.
	reserved = 512
)

// Budget assigns the file descriptors of the process, so that clients cannot exhaust those
// that other parts need. A zero field means no limit.
type Budget struct {
	Admin    int // connections of the admin server
	Pending  int // connections of one endpoint that have not sent a startup packet
	Pool     int // idle server connections of all endpoints
	Sessions int // sessions of all endpoints
}

// Allocate divides openFiles descriptors; 0 means that their number is not limited. A session
// uses two, one for the client and one for the server. A pooled connection uses one; the pool
// leaves at least as many sessions as it has connections.
func Allocate(openFiles uint64, endpoints, pool int) Budget {
	if openFiles == 0 {
		return Budget{Admin: MaxAdminConns, Pool: pool}
	}
	openFiles = min(openFiles, 1<<30) // fits into an int on every platform
	part := func(most int, of uint64) int { return max(1, min(most, int(openFiles/of))) }
	b := Budget{Admin: part(MaxAdminConns, 8), Pending: max(1, part(maxPending*endpoints, 8)/endpoints)}
	left := int(openFiles) - part(reserved, 4) - b.Admin - b.Pending*endpoints
	b.Pool = max(0, min(pool, left/3))
	b.Sessions = max(1, (left-b.Pool)/2)
	return b
}
