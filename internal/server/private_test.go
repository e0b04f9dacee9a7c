package server

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/listen"
)

// The directory of the sockets has a full path, which the command can use in any working directory,
// and a path that is short enough for a socket.
func TestSocketDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no private sockets")
	}
	t.Chdir(t.TempDir())
	long := strings.Repeat("d", 90)
	for _, dir := range []string{"relative", long} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", dir)
		c := Config{Addrs: [][]listen.Addr{nil}}
		socketDir, err := SocketDir()
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(socketDir)
		if err := c.ListenPrivately(socketDir, func(int) bool { return false }); err != nil {
			t.Fatal(err)
		}
		if !filepath.IsAbs(socketDir) {
			t.Errorf("TMPDIR=%s: directory %s", dir, socketDir)
		}
		listener, err := listen.Listen(t.Context(), c.Addrs[0][0], c.SocketMode)
		if err != nil {
			t.Fatalf("TMPDIR=%s: %v", dir, err)
		}
		listener[0].Close()
	}
}
