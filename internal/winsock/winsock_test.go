package winsock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/test/conntest"
)

// A translated error is recognized by its number, by Timeout and by its text, as on Linux.
func TestTranslate(t *testing.T) {
	for number, want := range map[syscall.Errno]struct {
		posix   error
		text    string
		timeout bool
	}{
		10013: {fs.ErrPermission, "permission denied", false},
		10024: {syscall.EMFILE, "too many open files", false},
		10048: {syscall.EADDRINUSE, "address already in use", false},
		10049: {syscall.EADDRNOTAVAIL, "", false}, // macOS has another text
		10051: {syscall.ENETUNREACH, "network is unreachable", false},
		10052: {syscall.ETIMEDOUT, "", true},
		10053: {syscall.ECONNABORTED, "software caused connection abort", false},
		10054: {syscall.ECONNRESET, "connection reset by peer", false},
		10058: {syscall.EPIPE, "broken pipe", false},
		10060: {syscall.ETIMEDOUT, "", true},
		10061: {syscall.ECONNREFUSED, "connection refused", false},
		10065: {syscall.EHOSTUNREACH, "no route to host", false},
	} {
		err := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("wsarecv", number)}
		before := err.Error()
		got := translate(err)
		var timeout net.Error
		if !errors.Is(got, want.posix) || !errors.As(got, &timeout) || timeout.Timeout() != want.timeout {
			t.Errorf("%d: got %v, want %v, timeout %v", uint(number), got, want.posix, want.timeout)
		}
		if text := "read tcp: wsarecv: " + want.text; want.text != "" && got.Error() != text {
			t.Errorf("%d: got %q, want %q", uint(number), got, text)
		}
		if err.Error() != before {
			t.Errorf("%d: the original is now %q", uint(number), err)
		}
	}
}

func TestTranslateKeepsOthers(t *testing.T) {
	for _, err := range []error{
		nil, io.EOF, net.ErrClosed, os.ErrDeadlineExceeded,
		&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		os.NewSyscallError("wsarecv", syscall.Errno(10022)),
		&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true},
	} {
		if got := translate(err); fmt.Sprint(got) != fmt.Sprint(err) {
			t.Errorf("got %q, want %q", got, err)
		}
	}
}

func TestTranslateLookup(t *testing.T) {
	for number, want := range map[syscall.Errno]net.DNSError{
		wsaTryAgain:   {Err: "temporary failure in name resolution", IsTemporary: true},
		wsaNoRecovery: {Err: "non-recoverable failure in name resolution"},
		wsaNoData:     {Err: "no such host", IsNotFound: true},
	} {
		original := net.DNSError{Err: lookupText(number)}
		var got *net.DNSError
		if err := translate(&net.OpError{Op: "dial", Err: &original}); !errors.As(err, &got) || *got != want {
			t.Errorf("%d: got %+v", uint(number), got)
		}
		if original != (net.DNSError{Err: lookupText(number)}) { // package net returns it to several callers
			t.Errorf("%d: the original is now %+v", uint(number), original)
		}
	}
}

// The system returns the numbers that are translated.
func TestPOSIX(t *testing.T) {
	_, refused := net.Dial("tcp", conntest.ClosedAddress(t))
	if err := POSIX(refused); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed address: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, inUse := net.Listen("tcp", listener.Addr().String())
	if err := POSIX(inUse); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("address of a listener: %v", err)
	}
	conn, peer := conntest.TCPPair(t)
	_ = peer.SetLinger(0)
	peer.Close()
	var reset error
	for reset == nil { // until the reset has arrived
		_, reset = conn.Write([]byte("data"))
	}
	if err := POSIX(reset); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after a reset: %v", err)
	}
	if POSIX(nil) != nil {
		t.Error("no error is an error")
	}
}

// Package net's text for a failed lookup is what lookupText expects.
func TestLookupText(t *testing.T) {
	if runtime.GOOS != "windows" {
		t.Skip("other systems have the text of Go's resolver")
	}
	_, err := net.LookupHost("iamproxy.invalid")
	var lookup *net.DNSError
	if !errors.As(POSIX(err), &lookup) {
		t.Fatalf("got %v", err)
	}
	if lookup.Err != "no such host" && lookup.Err != "temporary failure in name resolution" {
		t.Errorf("got %q", lookup.Err)
	}
}
