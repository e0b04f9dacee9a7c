package grant

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestIsCollision(t *testing.T) {
	for _, test := range []struct {
		code, routine string
		want          bool
	}{
		{"23505", "_bt_check_unique", true},
		{"42710", "CreateRole", true},
		{"40P01", "DeadLockReport", true},
		{"XX000", "simple_heap_update", true},
		{"XX000", "simple_heap_delete", true},
		{"XX000", "AlterRole", false},
		{"42501", "simple_heap_update", false},
	} {
		if got := isCollision(&pgconn.PgError{Code: test.code, Routine: test.routine}); got != test.want {
			t.Errorf("%s, %s: %v", test.code, test.routine, got)
		}
	}
}
