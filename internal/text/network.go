package text

import (
	"errors"
	"net"
	"syscall"

	"github.com/iamproxy/iamproxy/internal/winsock"
)

// NetworkCause returns why a host could not be reached, without the operations and addresses of
// package net, or "" for an error of another kind.
func NetworkCause(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	var timeout net.Error
	switch err = winsock.POSIX(err); {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "DNS has no such name"
	case errors.As(err, &dns):
		return "DNS does not answer"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	return ""
}
