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
	cause := err
	var op *net.OpError
	if errors.As(err, &op) {
		cause = winsock.POSIX(op)
	}
	var dns *net.DNSError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(cause, &dns) && dns.IsNotFound:
		return "DNS has no such name"
	case errors.As(cause, &dns):
		return "DNS does not answer"
	case errors.As(cause, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	return ""
}
