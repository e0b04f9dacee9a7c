package grant

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestIsCollision(t *testing.T) {
	for _, test := range []struct {
		code, message string
		want          bool
	}{
		{"23505", "duplicate key value violates unique constraint", true},
		{"42710", `role "app" already exists`, true},
		{"40P01", "deadlock detected", true},
		{"XX000", "tuple concurrently updated", true},
		{"XX000", "tuple concurrently deleted", true},
		{"XX000", "cache lookup failed for role 1", false},
		{"42501", "permission denied", false},
	} {
		if got := isCollision(&pgconn.PgError{Code: test.code, Message: test.message}); got != test.want {
			t.Errorf("%s, %s: %v", test.code, test.message, got)
		}
	}
}
