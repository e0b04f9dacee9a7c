package main

// shares are what becomes of the file descriptors that the process may have, so that
// clients cannot use up what the others need. Zero values are for no limit.
type shares struct {
	admin    int // connections of the admin server
	arriving int // clients of an endpoint that have not said what they want
	pool     int // idle connections of all endpoints together
	sessions int // of all endpoints together
}

const (
	// maxArriving is how many clients of an endpoint may be arriving at once where there is
	// enough of all.
	maxArriving = 1000
	// reserved is what may be needed beside: listeners, DNS and credentials, cancel requests,
	// clients that hear of an error (and keep their connection for a second), strangers.
	reserved = 512
)

// shareOut divides them. Where there are few, everybody gets less of them. A session has
// two, for its client and its server; an idle connection of a pool has one, and leaves
// at least as many sessions.
func shareOut(limit uint64, endpoints, pool int) shares {
	if limit == 0 {
		return shares{admin: adminConns, pool: pool}
	}
	limit = min(limit, 1<<30) // fits into an int anywhere
	part := func(most int, of uint64) int { return max(1, min(most, int(limit/of))) }
	s := shares{admin: part(adminConns, 8), arriving: max(1, part(maxArriving*endpoints, 8)/endpoints)}
	left := int(limit) - part(reserved, 4) - s.admin - s.arriving*endpoints
	s.pool = max(0, min(pool, left/3))
	s.sessions = max(1, (left-s.pool)/2)
	return s
}
