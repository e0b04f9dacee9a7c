package pool

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/relay"
	"github.com/iamproxy/iamproxy/proxy/upstream"
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, netconn.SetPlainIO) }

// A Terminate is kept back if the server is idle, and both directions stop. If not, it is
// forwarded.
func TestPooledRelease(t *testing.T) {
	terminate := pgwire.Encode(&pgproto3.Terminate{})
	query := pgwire.Encode(&pgproto3.Query{String: "select 1"})
	parse := pgwire.Encode(&pgproto3.Parse{Query: "select 1"})
	sync := pgwire.Encode(&pgproto3.Sync{})
	flush := pgwire.Encode(&pgproto3.Flush{})
	idle := pgwire.Encode(ready)
	inTransaction := pgwire.Encode(&pgproto3.ReadyForQuery{TxStatus: 'T'})
	row := pgwire.Encode(&pgproto3.DataRow{Values: [][]byte{[]byte("1")}})
	for name, test := range map[string]struct {
		request, response []byte // before last
		last              []byte // what the client sends after the response
		forwarded         []byte // of last
		released          bool
	}{
		"no request":                {last: terminate, released: true},
		"query":                     {request: query, response: slices.Concat(row, idle), last: terminate, released: true},
		"Sync":                      {request: slices.Concat(parse, sync), response: idle, last: terminate, released: true},
		"Flush after Sync":          {request: slices.Concat(parse, sync, flush), response: idle, last: terminate, released: true},
		"no Sync":                   {request: parse, last: terminate, forwarded: terminate},
		"Sync in flight":            {request: sync, last: terminate, forwarded: terminate},
		"request in flight":         {request: query, last: terminate, forwarded: terminate},
		"request with Terminate":    {last: slices.Concat(query, terminate), forwarded: slices.Concat(query, terminate)},
		"response in progress":      {request: query, response: row, last: terminate, forwarded: terminate},
		"response within a message": {request: query, response: slices.Concat(idle, row[:7]), last: terminate, forwarded: terminate},
		"open transaction":          {request: query, response: inTransaction, last: terminate, forwarded: terminate},
		"unrequested response":      {request: query, response: slices.Concat(idle, idle), last: terminate, forwarded: terminate},
		"bytes after Terminate":     {last: slices.Concat(terminate, query), forwarded: slices.Concat(terminate, query)},
		"Terminate with a body":     {last: []byte("X\x00\x00\x00\x05?"), forwarded: []byte("X\x00\x00\x00\x05?")},
	} {
		t.Run(name, func(t *testing.T) {
			clientConn, clientPeer := conntest.TCPPair(t)
			serverConn, serverPeer := conntest.TCPPair(t)
			client, server := netconn.New(clientConn), netconn.New(serverConn)
			p := &Pool{MaxIdle: 1}
			conn, err := p.New(&upstream.Conn{Conn: server}, "key", slices.Concat(pgwire.Encode(authOK), idle))
			if err != nil {
				t.Fatal(err)
			}
			r := conn.NewRelease()
			up, down := relay.Direction{Bytes: new(atomic.Int64)}, relay.Direction{Bytes: new(atomic.Int64)}
			upDone, downDone := make(chan struct{}), make(chan struct{})
			go func() { defer close(upDone); r.CopyUp(&up, client) }()
			go func() { defer close(downDone); r.CopyDown(&down, client) }()

			send(t, clientPeer, test.request)
			expect(t, serverPeer, test.request)
			send(t, serverPeer, test.response)
			expect(t, clientPeer, test.response)
			send(t, clientPeer, test.last)
			expect(t, serverPeer, test.forwarded)
			if !test.released {
				clientPeer.Close()
				serverPeer.Close()
			}
			<-upDone
			<-downDone
			if up.Stopped != test.released || down.Stopped != test.released || (r.Reason() == "") != test.released {
				t.Errorf("stopped: %v and %v, reason %q, want released: %v", up.Stopped, down.Stopped, r.Reason(), test.released)
			}
			if test.released { // nothing was forwarded, and the connection works
				go func() { _, _ = conn.Write([]byte("next")) }()
				expect(t, serverPeer, []byte("next"))
			} else if !errors.Is(down.ReadErr, io.EOF) {
				t.Errorf("read error %v, want the end of the server's connection", down.ReadErr)
			}
		})
	}
}

func send(t *testing.T, conn net.Conn, data []byte) {
	t.Helper()
	if _, err := conn.Write(data); err != nil {
		t.Error(err)
	}
}

func expect(t *testing.T, conn net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
}
