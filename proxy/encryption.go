package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// withALPN is config, with the protocol's name.
func withALPN(config *tls.Config) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	config.NextProtos = []string{pgwire.ALPN}
	return config
}

// errNoTLS ends a connection whose client does not come to terms about TLS. TLS
// itself has told the client.
var errNoTLS = errors.New("no TLS with the client")

// receiveStartup gives the client the encryption that it asks for, if it can be
// had, and returns the first packet that is something else. TLS it may ask for
// (SSLRequest), or start at once; GSSAPI encryption there is none, nor TLS if offer is
// nil.
func (s *session) receiveStartup(within time.Duration, offer *tls.Config) (pgwire.StartupPacket, error) {
	socket := s.client.Socket()
	defer context.AfterFunc(s.proxy.ctx, func() { socket.Close() })()
	socket.SetDeadline(time.Now().Add(within))
	asked := make(map[uint32]bool)
	for first := true; ; first = false {
		head, err := pgwire.ReadStartupHead(s.client)
		if err != nil {
			return pgwire.StartupPacket{}, s.startupError(err)
		}
		if first && pgwire.IsClientHello(head) && offer != nil {
			s.client.Unread(head[:])
			if err := s.acceptTLS(); err != nil {
				return pgwire.StartupPacket{}, err
			}
			if state, _ := s.client.ConnectionState(); state.NegotiatedProtocol != pgwire.ALPN {
				return pgwire.StartupPacket{}, pgwire.NewError(pgwire.ClientALPNMissing, nil)
			}
			continue
		}
		packet, err := pgwire.ReadStartupBody(s.client, head)
		switch {
		case err != nil:
			return packet, s.startupError(err)
		case packet.Code != pgwire.SSLRequest && packet.Code != pgwire.GSSENCRequest:
			return packet, nil
		case s.client.Encrypted():
			return packet, pgwire.NewError(pgwire.ClientTLSNested, nil)
		case asked[packet.Code]:
			return packet, pgwire.NewError(pgwire.ClientTLSRepeated, nil)
		}
		asked[packet.Code] = true
		if err := s.answerRequest(packet.Code == pgwire.SSLRequest && offer != nil); err != nil {
			return packet, err
		}
	}
}

// answerRequest answers a request for encryption.
func (s *session) answerRequest(yes bool) error {
	answer := byte('N')
	if yes {
		answer = 'S'
	}
	if _, err := s.client.Write([]byte{answer}); err != nil {
		return fmt.Errorf("%w: %w", pgwire.ErrNoStartup, err)
	}
	if !yes {
		return nil
	}
	return s.acceptTLS()
}

// acceptTLS shakes hands. Not a byte was read ahead, so nothing that came in
// clear is ever taken for something that came inside TLS: a client behind whose
// SSLRequest there is anything but a handshake is refused (CVE-2021-23214).
func (s *session) acceptTLS() error {
	secure := tls.Server(s.client.Socket(), s.proxy.clientTLS)
	err := s.client.StartTLS(context.Background(), secure) // a shutdown closes the socket
	var noHandshake tls.RecordHeaderError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &noHandshake) && noHandshake.Conn != nil:
		return pgwire.NewError(pgwire.ClientDataBeforeTLS, nil)
	case netconn.IsDisconnect(err): // as a health check does
		return fmt.Errorf("%w: %w", pgwire.ErrNoStartup, err)
	default:
		return fmt.Errorf("%w: %w", errNoTLS, err)
	}
}

// startupError is err of reading a first packet, as it is to be treated.
func (s *session) startupError(err error) error {
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // an alert, as crypto/tls reports it
		return fmt.Errorf("%w: %w", errNoTLS, alert)
	case netconn.IsTimeout(err) && !errors.Is(err, pgwire.ErrNoStartup):
		return s.proxy.noStartupInTime()
	default:
		return err
	}
}

// tlsVersion is that of the client's TLS; empty without.
func (s *session) tlsVersion() string {
	if state, ok := s.client.ConnectionState(); ok {
		return tls.VersionName(state.Version)
	}
	return ""
}
