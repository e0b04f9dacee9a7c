package netconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"os"
	"regexp"
	"runtime"
	"testing"
)

// The toolchain of go.mod must be one that tlsBuffer was tested with, or releases do
// without it and need more memory.
func TestToolchainIsTested(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	toolchain := regexp.MustCompile(`(?m)^toolchain (\S+)$`).FindSubmatch(mod)
	if toolchain == nil || !isTested(string(toolchain[1])) {
		t.Errorf("go.mod's toolchain %q is not on the list in tlsbuffer.go (%q)", toolchain, testedGo)
	}
	if isTested(runtime.Version()) != hasRawInput {
		t.Errorf("with %s: tls.Conn has a rawInput that is used: %v", runtime.Version(), hasRawInput)
	}
}

func TestIsTested(t *testing.T) {
	for version, want := range map[string]bool{
		"go1.26": true, "go1.26.11": true, "go1.26.1 X:jsonv2": true,
		"go1.26rc1": false, "go1.260": false, "go1.2": false, "go1.25.7": false, "go1.27": false,
		"devel go1.26-0123456789 Tue Jan 6 2026": false, "": false,
	} {
		if isTested(version) != want {
			t.Errorf("isTested(%q) = %v", version, !want)
		}
	}
}

// A tls.Conn has memory for records only while it is read.
func TestTLSBufferIsReleased(t *testing.T) {
	if !hasRawInput || runtime.GOOS != "linux" {
		t.Skip("not with this release of Go, or not on this system")
	}
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conn, peer := connPair(t, false, version)
		input := newTLSBuffer(conn.Conn.(*tls.Conn), false).input
		go func() { _, _ = peer.Write(data) }()
		if got, err := receive(conn, len(data)); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("received %d bytes, %v", len(got), err)
		}
		if err := conn.DrainPending(func([]byte) {}); err != nil {
			t.Fatal(err)
		}
		if input.Cap() != 0 || conn.buffer.lent != nil {
			t.Errorf("%s: %d bytes are allocated while nothing is read", tls.VersionName(version), input.Cap())
		}
	}
}

// A part of a record stays where it is until the rest arrives.
func TestTLSBufferKeepsPartOfARecord(t *testing.T) {
	if !hasRawInput || runtime.GOOS != "linux" {
		t.Skip("not with this release of Go, or not on this system")
	}
	conn, peer := connPair(t, false, tls.VersionTLS13)
	conn.Socket().SetPolling(true)
	defer conn.Socket().SetPolling(false)
	if _, err := peer.tcp.Write([]byte{23, 3, 3}); err != nil { // a header, cut short
		t.Fatal(err)
	}
	if err := conn.Socket().WaitReadable(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("read: %v", err)
	}
	if conn.buffer.lent == nil || conn.buffer.input.Len() != 3 {
		t.Errorf("%d bytes of the record are there", conn.buffer.input.Len())
	}
}
