//go:build linux

// Package windows runs the binary for Windows and the tests of the packages under Wine.
package windows

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/sidecar"
)

// limit bounds every wait. It expires only in a test that fails.
const limit = 2 * time.Minute

// wine is an installation of Wine, with a Windows that only these tests use.
type wine struct {
	program string // of Wine
	server  string // of Wine
	dir     string // of the Windows
	binary  string // iamproxy.exe
}

// WINE names the program, and BINARY the binary for Windows. `make windows-test` sets both.
var installWine = sync.OnceValues(func() (*wine, error) {
	program, err := exec.LookPath(os.Getenv("WINE"))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "iamproxy-wine-")
	if err != nil {
		return nil, err
	}
	w := &wine{program: program, server: filepath.Join(filepath.Dir(program), "wineserver"), dir: dir, binary: os.Getenv("BINARY")}
	return w, w.install()
})

func startWine(t *testing.T) *wine {
	t.Helper()
	if os.Getenv("WINE") == "" {
		t.Skip("WINE is not set: see `make windows-test`")
	}
	w, err := installWine()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv("WINE") != "" {
		if w, err := installWine(); w != nil {
			if err = errors.Join(err, w.remove()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code) //nolint:forbidigo // the way of a TestMain
}

// install creates the Windows. Its server runs until remove, since a start takes a second.
func (w *wine) install() error {
	for _, cmd := range []*exec.Cmd{exec.Command(w.server, "--persistent"), w.command(context.Background(), "wineboot", "--init")} {
		cmd.Env = w.environment()
		if err := cmd.Run(); err != nil { // without pipes, which its services would keep open
			return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
		}
	}
	return w.addRandom()
}

// addRandom adds the library that Go's random numbers need, which Wine has since version 9. The
// function is that of another library.
func (w *wine) addRandom() error {
	library := filepath.Join(w.dir, "drive_c", "windows", "system32", "bcryptprimitives.dll")
	if _, err := os.Stat(library); err == nil {
		return nil
	}
	definition := filepath.Join(w.dir, "bcryptprimitives.def")
	if err := os.WriteFile(definition, []byte("LIBRARY bcryptprimitives.dll\nEXPORTS\nProcessPrng = advapi32.SystemFunction036\n"), 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("x86_64-w64-mingw32-ld", "-shared", "--entry", "0", "-o", library, definition).CombinedOutput(); err != nil {
		return fmt.Errorf("x86_64-w64-mingw32-ld: %w: %s", err, out)
	}
	return nil
}

// remove ends all programs of the Windows, and removes it.
func (w *wine) remove() error {
	server := exec.Command(w.server, "--kill")
	server.Env = w.environment()
	_ = server.Run() // fails if there is none
	return os.RemoveAll(w.dir)
}

// environment returns the environment of Wine's programs, without its messages and questions.
func (w *wine) environment() []string {
	return append(sidecar.Environment(), "WINEPREFIX="+w.dir, "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml=")
}

// command returns a command that runs a program of Windows.
func (w *wine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.program, args...)
	cmd.Env = w.environment()
	return cmd
}

// iamproxy returns a command that runs the binary.
func (w *wine) iamproxy(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := w.command(ctx, append([]string{w.binary}, args...)...)
	cmd.Env = slices.Concat(cmd.Env, env)
	return cmd
}
