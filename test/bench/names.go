//go:build linux

package main

import (
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakedns"
)

// nameServer resolves the server's name to this machine. PgBouncer needs it: it verifies
// the name that it dials, and its resolver uses port 53 only. Without root or permission
// for that port there is none.
type nameServer struct {
	conn net.PacketConn
	host string
}

// serveNames uses an address of loopback that is free: other programs may have some.
func serveNames() nameServer {
	for last := range 10 {
		host := fmt.Sprintf("127.53.53.%d", 53+last)
		if conn, err := fakedns.Start(net.JoinHostPort(host, "53"), answer); err == nil {
			return nameServer{conn, host}
		}
	}
	return nameServer{} // the page explains the consequence
}

func answer(q dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode) {
	if strings.TrimSuffix(q.Name.String(), ".") != aurora.DefaultHost {
		return nil, dnsmessage.RCodeNameError
	}
	if q.Type != dnsmessage.TypeA {
		return nil, dnsmessage.RCodeSuccess
	}
	header := fakedns.Header(q.Name)
	header.Type, header.TTL = dnsmessage.TypeA, 3600
	return []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}, dnsmessage.RCodeSuccess
}

// forPgbouncer returns the address that PgBouncer dials, and how it verifies the server.
func (s nameServer) forPgbouncer() (host, mode string) {
	if s.conn == nil {
		return "127.0.0.1", "verify-ca"
	}
	return aurora.DefaultHost, "verify-full"
}

func (s nameServer) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
