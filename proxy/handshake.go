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

// receiveStartup returns the first packet that does not request encryption. TLS is started if
// the client requests it (SSLRequest) or starts it at once, and config is not nil. There is no
// GSSAPI encryption.
func (s *session) receiveStartup(timeout time.Duration, config *tls.Config) (pgwire.StartupPacket, error) {
	socket := s.client.Socket()
	defer context.AfterFunc(s.proxy.ctx, func() { socket.Close() })()
	socket.SetDeadline(time.Now().Add(timeout))
	requested := make(map[uint32]bool)
	var declined uint32 // the last request that was answered with no
	for first := true; ; first = false {
		head, err := pgwire.ReadStartupHead(s.client)
		if err != nil {
			return pgwire.StartupPacket{}, s.startupError(s.declinedError(declined, err))
		}
		if first && pgwire.IsClientHello(head) && config != nil {
			s.client.Unread(head[:])
			if err := s.startTLS(config); err != nil {
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
			return packet, s.startupError(s.declinedError(declined, err))
		case packet.Code != pgwire.SSLRequest && packet.Code != pgwire.GSSENCRequest:
			if first && packet.Code != pgwire.CancelRequest {
				s.proxy.unencrypted.note(s.clientHost())
			}
			return packet, nil
		case s.client.Encrypted():
			return packet, pgwire.NewError(pgwire.ClientTLSNested, nil)
		case requested[packet.Code]:
			return packet, pgwire.NewError(pgwire.ClientTLSRepeated, nil)
		}
		requested[packet.Code] = true
		if packet.Code == pgwire.GSSENCRequest || config == nil {
			declined, s.declinedAt = packet.Code, time.Now()
			err = s.answerEncryptionRequest('N')
		} else if err = s.answerEncryptionRequest('S'); err == nil {
			err = s.startTLS(config)
		}
		if err != nil {
			return packet, err
		}
	}
}

// declinedError returns the error of a client that ends its connection instead of sending a startup
// packet, after its request for encryption was declined. Other errors of reading are returned as they
// are. A client that sends Terminate, such as `iamproxy wait`, has not failed.
func (s *session) declinedError(declined uint32, err error) error {
	switch {
	case !errors.Is(err, pgwire.ErrNoStartup) || errors.Is(err, pgwire.ErrTerminated) || netconn.IsTimeout(err) || s.proxy.ctx.Err() != nil:
		return err
	case declined == pgwire.SSLRequest:
		return pgwire.NewError(pgwire.ClientTLSDeclined, nil)
	case declined == pgwire.GSSENCRequest:
		return pgwire.NewError(pgwire.ClientGSSDeclined, nil)
	default:
		return err
	}
}

func (s *session) answerEncryptionRequest(answer byte) error {
	if _, err := s.client.Write([]byte{answer}); err != nil {
		return fmt.Errorf("%w: %w", pgwire.ErrNoStartup, err)
	}
	return nil
}

// startTLS performs the handshake. No byte was read ahead, so that nothing sent unencrypted
// is taken for data inside TLS: bytes after an SSLRequest that are no handshake are an error
// (CVE-2021-23214).
func (s *session) startTLS(config *tls.Config) error {
	config = s.proxy.ClientAuth.tlsConfig(config)
	err := s.client.StartTLS(context.Background(), tls.Server(s.client.Socket(), config)) // a shutdown closes the socket
	var noHandshake tls.RecordHeaderError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &noHandshake) && noHandshake.Conn != nil:
		return pgwire.NewError(pgwire.ClientDataBeforeTLS, nil)
	case netconn.IsDisconnect(err): // such as a health check's
		return fmt.Errorf("%w: %w", pgwire.ErrNoStartup, err)
	case netconn.IsTimeout(err):
		return pgwire.NewError(pgwire.ClientTLSFailed, errHandshakeTimeout)
	default:
		return pgwire.NewError(pgwire.ClientTLSFailed, err)
	}
}

var errHandshakeTimeout = errors.New("timeout")

// startupError classifies an error of reading a startup packet.
func (s *session) startupError(err error) error {
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // how crypto/tls reports an alert
		return pgwire.NewError(pgwire.ClientTLSFailed, alert)
	case netconn.IsTimeout(err) && !errors.Is(err, pgwire.ErrNoStartup):
		return s.proxy.startupTimeoutError()
	}
	var off *pgwire.Error
	if errors.As(err, &off) && !s.isLocal() && (off.Reason == pgwire.ClientTLSDeclined || off.Reason == pgwire.ClientTLSDisabled) {
		off.Hint = "Start iamproxy with --listen-tls. Without TLS, the queries and data of this client would cross the network unencrypted."
	}
	return err
}

// isLocal reports whether no other host sees the traffic of the client.
func (s *session) isLocal() bool {
	tcp, ok := s.client.Socket().RemoteAddr().(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// clientTLSVersion returns the version of the client's TLS; empty without TLS.
func (s *session) clientTLSVersion() string {
	if state, ok := s.client.ConnectionState(); ok {
		return tls.VersionName(state.Version)
	}
	return ""
}
