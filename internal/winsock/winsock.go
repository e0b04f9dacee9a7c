// Package winsock translates the errors of Windows's sockets. Go's syscall.ECONNRESET, for example,
// is a number of Go's on Windows, and no error of a socket is equal to it.
package winsock

import (
	"net"
	"os"
	"runtime"
	"syscall"
)

// POSIX returns err, or a copy in which an error number of Windows's sockets is replaced with that of
// POSIX. errors.Is, Timeout and the text are then as on other systems, where POSIX does nothing. Only
// an error of package net itself is replaced, not one that is wrapped.
//
// Package net may return one error to several goroutines, as that of a lookup.
func POSIX(err error) error {
	if runtime.GOOS != "windows" {
		return err
	}
	return translate(err)
}

// numbers has the number of POSIX for each error number of Windows's sockets that differs.
// https://learn.microsoft.com/en-us/windows/win32/winsock/windows-sockets-error-codes-2
var numbers = map[syscall.Errno]syscall.Errno{
	10013: syscall.EACCES,
	10024: syscall.EMFILE,
	10038: syscall.ENOTSOCK,
	10047: syscall.EAFNOSUPPORT,
	10048: syscall.EADDRINUSE,
	10049: syscall.EADDRNOTAVAIL,
	10050: syscall.ENETDOWN,
	10051: syscall.ENETUNREACH,
	10052: syscall.ETIMEDOUT, // WSAENETRESET: keep-alives were not answered
	10053: syscall.ECONNABORTED,
	10054: syscall.ECONNRESET,
	10055: syscall.ENOBUFS,
	10058: syscall.EPIPE, // WSAESHUTDOWN: sent after CloseWrite
	10060: syscall.ETIMEDOUT,
	10061: syscall.ECONNREFUSED,
	10064: syscall.EHOSTDOWN,
	10065: syscall.EHOSTUNREACH,
}

// The errors of getaddrinfo that package net does not recognize.
const (
	wsaTryAgain   syscall.Errno = 11002
	wsaNoRecovery syscall.Errno = 11003
	wsaNoData     syscall.Errno = 11004
)

func translate(err error) error {
	switch original := err.(type) { //nolint:errorlint // each level is copied
	case *net.OpError:
		copied := *original
		copied.Err = translate(original.Err)
		return &copied
	case *os.SyscallError:
		if number, ok := original.Err.(syscall.Errno); ok { //nolint:errorlint // package net wraps no number twice
			if posix, ok := numbers[number]; ok {
				return os.NewSyscallError(original.Syscall, posix)
			}
		}
	case *net.DNSError:
		return translateLookup(*original)
	}
	return err
}

// translateLookup replaces the text of a failed lookup, which package net has instead of the number,
// with that of other systems.
func translateLookup(err net.DNSError) *net.DNSError {
	switch err.Err {
	case lookupText(wsaTryAgain):
		err.Err, err.IsTemporary = "temporary failure in name resolution", true
	case lookupText(wsaNoRecovery):
		err.Err = "non-recoverable failure in name resolution"
	case lookupText(wsaNoData):
		err.Err, err.IsNotFound = "no such host", true
	}
	return &err
}

// lookupText returns the text of an error of getaddrinfo in a net.DNSError.
func lookupText(number syscall.Errno) string {
	return os.NewSyscallError("getaddrinfow", number).Error()
}
