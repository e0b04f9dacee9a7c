package limits

import "testing"

// The budget never exceeds the limit, and gives each part at least one descriptor.
func TestAllocate(t *testing.T) {
	for _, limit := range []uint64{40, 64, 100, 256, 1024, 4096, 65_536, 1 << 20, 1<<63 - 1} {
		for _, endpoints := range []int{1, 2, 10} {
			for _, pool := range []int{0, 20, 600} {
				b := Allocate(limit, endpoints, pool)
				if b.Admin < 1 || b.Pending < 1 || b.Sessions < 1 {
					t.Errorf("limit %d: %+v has a part without descriptors", limit, b)
				}
				if b.Pool > pool || b.Pool > b.Sessions {
					t.Errorf("limit %d, pool %d: pool too large in %+v", limit, pool, b)
				}
				if b.Admin > MaxAdminConns || b.Pending > maxPending {
					t.Errorf("limit %d: %+v exceeds a maximum", limit, b)
				}
				if sum := uint64(b.Admin + b.Pending*endpoints + 2*b.Sessions + b.Pool); sum > limit && b.Sessions > 1 {
					t.Errorf("limit %d, %d endpoints, pool %d: %+v uses %d", limit, endpoints, pool, b, sum)
				}
			}
		}
	}
	if b := Allocate(1024, 1, 0); b != (Budget{Admin: 128, Pending: 128, Sessions: 256}) {
		t.Errorf("limit 1024: %+v", b)
	}
	if b := Allocate(0, 3, 0); b != (Budget{Admin: MaxAdminConns}) {
		t.Errorf("no limit: %+v", b)
	}
}
