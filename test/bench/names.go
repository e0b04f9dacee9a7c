//go:build linux

package main

import (
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakedns"
)

// nameServer resolves the server's name to this machine. PgBouncer needs it: it verifies
// the name that it dials, and its resolver uses port 53 only. Without root or permission
// for that port there is none.
type nameServer struct{ conn net.PacketConn }

// resolverHost is an unused address of loopback.
const resolverHost = "127.53.53.53"

func serveNames() nameServer {
	conn, err := fakedns.Start(net.JoinHostPort(resolverHost, "53"), answer)
	if err != nil {
		return nameServer{} // the page explains the consequence
	}
	return nameServer{conn}
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
