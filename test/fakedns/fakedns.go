// Package fakedns is a name server on loopback, for tests.
package fakedns

import (
	"errors"
	"net"

	"golang.org/x/net/dns/dnsmessage"
)

// Answer returns the records of a question. RCodeSuccess without resources means that the
// name has no records of the type.
type Answer func(question dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode)

// Start serves over UDP until the returned connection is closed.
func Start(address string, answer Answer) (net.PacketConn, error) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	go Serve(conn, answer)
	return conn, nil
}

// Serve answers until the connection is closed. Questions are answered concurrently.
func Serve(conn net.PacketConn, answer Answer) {
	for {
		packet := make([]byte, 4096)
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		go reply(conn, from, packet[:n], answer)
	}
}

func reply(conn net.PacketConn, to net.Addr, question []byte, answer Answer) {
	if reply, err := Reply(question, answer); err == nil {
		_, _ = conn.WriteTo(reply, to) // a client repeats the question
	}
}

// Reply returns the reply of a recursive server to a message with one question.
func Reply(message []byte, answer Answer) ([]byte, error) {
	var asked dnsmessage.Message
	if err := asked.Unpack(message); err != nil || len(asked.Questions) != 1 {
		return nil, errors.New("fakedns: not a question")
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: asked.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: asked.Questions,
	}
	reply.Answers, reply.RCode = answer(asked.Questions[0])
	return reply.Pack()
}

// Header returns the header of a record that must not be cached.
func Header(name dnsmessage.Name) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 1}
}
