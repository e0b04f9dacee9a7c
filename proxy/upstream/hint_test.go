package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// dialFailure returns the error of package net for a failed dial of address.
func dialFailure(address string, err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), Err: err}
}

// A hint is about what the connection goes through, and blames nothing else.
func TestHints(t *testing.T) {
	const host = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	direct := &Dialer{Endpoint: host + ":5432"}
	forward := &Dialer{Endpoint: host + ":5432", Via: "127.0.0.1:15432"}
	jump := &Dialer{Endpoint: host + ":5432", Via: "db.example.com:5432"}
	socks := &Dialer{Endpoint: host + ":5432", SOCKS: &SOCKS5{Address: "127.0.0.1:1080"}}
	tunnel := &Dialer{Endpoint: host + ":5432", Via: "ssm://i-0123", TunnelOutput: func() string { return "Waiting for connections..." }}
	refused, timeout := os.NewSyscallError("connect", syscall.ECONNREFUSED), os.ErrDeadlineExceeded
	unknown := &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	for name, test := range map[string]struct {
		dialer  *Dialer
		failed  error
		message string
		hint    string
		never   string
	}{
		"refused":              {direct, direct.dialError(dialFailure("10.0.3.4:5432", refused)), "could not connect to " + host + ":5432 (10.0.3.4): connection refused", "database is running", "security group"},
		"unreachable":          {direct, direct.dialError(dialFailure("10.0.3.4:5432", os.NewSyscallError("connect", syscall.EHOSTUNREACH))), "no route to host", "From outside the VPC use --via", ""},
		"silent, private":      {direct, dialFailure("10.0.3.4:5432", timeout), "no answer from " + host, "security groups and routes let this host reach the database. From outside the VPC use --via", ""},
		"silent, public":       {direct, dialFailure("203.0.113.4:5432", timeout), "no answer from", "security groups and routes", "VPC"},
		"silent later":         {direct, &net.OpError{Op: "read", Err: timeout}, "no answer from", "accepted the connection", "security groups"},
		"silent, no phase":     {direct, context.DeadlineExceeded, "no answer from", "security groups", ""},
		"no such name":         {direct, direct.dialError(unknown), `could not resolve host name "` + host + `": no such host`, "From outside the VPC use --via", ""},
		"name server away":     {direct, direct.dialError(&net.DNSError{Err: "server misbehaving", Name: host}), "server misbehaving", "Check the DNS servers", "VPC"},
		"hangs up":             {direct, io.EOF, "closed the connection during login", "log of the database", "--via"},
		"forward not there":    {forward, forward.dialError(dialFailure("127.0.0.1:15432", refused)), "(via 127.0.0.1:15432): connection refused", "Nothing is listening on 127.0.0.1:15432 (--via). Start the port forward, or correct --via.", "security group"},
		"forward hangs up":     {forward, io.EOF, "closed the connection", "Check that 127.0.0.1:15432 (--via) leads to the database", "security group"},
		"forward silent":       {forward, &net.OpError{Op: "read", Err: timeout}, "no answer", "Check that 127.0.0.1:15432 (--via) leads to the database", "security group"},
		"forward elsewhere":    {forward, forward.newError(pgwire.TLSNotOffered, nil, forward.Name()), "does not offer TLS", "127.0.0.1:15432 (--via)", ""},
		"forward, other name":  {forward, forward.newError(pgwire.TLSWrongName, nil, forward.Name(), host), "is not for host name", "leads to this database", ""},
		"other host refuses":   {jump, jump.dialError(dialFailure("192.0.2.1:5432", refused)), "connection refused", "Nothing is listening on db.example.com:5432 (--via). Check that it is running", "port forward"},
		"other host's name":    {jump, jump.dialError(unknown), `host name "db.example.com"`, "Correct --via", "VPC"},
		"SOCKS not there":      {socks, socks.dialError(dialFailure("127.0.0.1:1080", refused)), "connection refused", "Nothing is listening on socks5://127.0.0.1:1080 (--via). Start the SOCKS proxy", "database"},
		"SOCKS login":          {socks, socks.dialError(newSOCKSError(&net.OpError{Op: "socks connect", Err: errors.New("username/password authentication failed")})), "SOCKS proxy refused the connection", "user, password and rules", "security group"},
		"SOCKS, database away": {socks, socks.dialError(newSOCKSError(errors.New("unknown error host unreachable"))), "(via socks5://127.0.0.1:1080): host unreachable", "works but could not reach the database", "password"},
		"tunnel hangs up":      {tunnel, io.EOF, "closed the connection", "Its last output: Waiting for connections...", "security group"},
	} {
		t.Run(name, func(t *testing.T) {
			failed := test.dialer.AsError(test.failed)
			if !strings.Contains(failed.Error(), test.message) || !strings.Contains(failed.Hint, test.hint) || test.never != "" && strings.Contains(failed.Hint, test.never) {
				t.Errorf("%v; hint %q", failed, failed.Hint)
			}
		})
	}
}
