package auth

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestMemoryFileIsReadOnce verifies that the pipe ends with its first reader, which gets all of the
// content.
func TestMemoryFileIsReadOnce(t *testing.T) {
	const content = "[default]\n"
	path, release, ok := memoryFile(content)
	if !ok {
		t.Fatal("no file in memory")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != content {
		t.Errorf("read %q, %v", got, err)
	}
	expectGone(t, path)
	release()
}

// TestMemoryFileReleasedUnread verifies that nothing is left of a pipe without a reader.
func TestMemoryFileReleasedUnread(t *testing.T) {
	path, release, ok := memoryFile("[default]\n")
	if !ok {
		t.Fatal("no file in memory")
	}
	release()
	expectGone(t, path)
}

// expectGone waits until there is no pipe with the name, and does not open one.
func expectGone(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		pipe, err := createPipe(path, "x")
		if err == nil {
			_ = windows.CloseHandle(pipe)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the pipe is still there: %v", err)
		}
	}
}

// TestPipeIsPrivate verifies that only the user of this process has access to the pipe, and that a
// second pipe cannot have its name.
func TestPipeIsPrivate(t *testing.T) {
	const path = `\\.\pipe\iamproxy-test`
	pipe, err := createPipe(path, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(pipe) //nolint:errcheck // it was just opened
	if other, err := createPipe(path, "x"); err == nil {
		_ = windows.CloseHandle(other)
		t.Error("two pipes have the same name")
	}
	security, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	if got := security.String(); !strings.HasPrefix(got, "D:P(A;;") || !strings.HasSuffix(got, ";;;"+user.User.Sid.String()+")") || strings.Count(got, "(") != 1 {
		t.Errorf("the access control list is %s, want only the user %s", got, user.User.Sid)
	}
}
