package main

import "testing"

// Whatever there is of them, all together is not more, and everybody gets some.
func TestShareOut(t *testing.T) {
	for _, limit := range []uint64{40, 64, 100, 256, 1024, 4096, 65_536, 1 << 20, 1<<63 - 1} {
		for _, endpoints := range []int{1, 2, 10} {
			for _, pool := range []int{0, 20, 600} {
				s := shareOut(limit, endpoints, pool)
				if s.admin < 1 || s.arriving < 1 || s.sessions < 1 {
					t.Errorf("%d: %+v leaves somebody without", limit, s)
				}
				if s.pool > pool || s.pool > s.sessions {
					t.Errorf("%d: a pool of %d with %+v", limit, pool, s)
				}
				if s.admin > adminConns || s.arriving > maxArriving {
					t.Errorf("%d: %+v is more than is of use", limit, s)
				}
				if sum := uint64(s.admin + s.arriving*endpoints + 2*s.sessions + s.pool); sum > limit && s.sessions > 1 {
					t.Errorf("%d, %d endpoints, pool %d: %+v is %d", limit, endpoints, pool, s, sum)
				}
			}
		}
	}
	if s := shareOut(1024, 1, 0); s != (shares{admin: 128, arriving: 128, sessions: 256}) {
		t.Errorf("of 1024: %+v", s)
	}
	if s := shareOut(0, 3, 0); s != (shares{admin: adminConns}) {
		t.Errorf("without a limit: %+v", s)
	}
}
