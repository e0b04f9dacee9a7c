//go:build unix

package listen

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// A locked directory does not delay a process that is told to end.
func TestLockedDirectory(t *testing.T) {
	dir := t.TempDir()
	release, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listenUnix(ctx, filepath.Join(dir, ".s.PGSQL.5432"), 0o660); err == nil || !strings.Contains(err.Error(), "lock of "+dir) {
		t.Errorf("got %v", err)
	}
}
