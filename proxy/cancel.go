package proxy

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// cancelWait bounds the time to connect to the server for a CancelRequest, and then the time
// until the server has processed it.
const cancelWait = 10 * time.Second

// addCancelKey registers the session under key, the cancel key that the client is sent.
// serverKey is the key by which the server at the address knows the session.
func (s *session) addCancelKey(key, serverKey []byte, address string) {
	if pgwire.IsCancelKey(key) {
		s.cancelTarget = s.proxy.cancels.Add(key, serverKey, address)
	}
}

// removeCancelKey makes the session's cancel key invalid. It reports whether the server may
// still act on a request with it.
func (s *session) removeCancelKey() (pending bool) {
	if s.cancelTarget != nil {
		pending = s.proxy.cancels.Remove(s.cancelTarget)
		s.cancelTarget = nil
	}
	return pending
}

// forwardCancel forwards a CancelRequest to the server that has its session. It returns when
// the server has closed the connection, so that the request does not reach the client's next
// query. A CancelRequest has no response.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (s *session) forwardCancel(packet pgwire.StartupPacket) {
	target, delivered := s.proxy.cancels.Claim(packet.Payload)
	switch {
	case target != nil:
		defer close(delivered)
		s.deliverCancel(target)
	case delivered != nil:
		<-delivered
		s.log(zap.DebugLevel, "cancel request served by an earlier one that was not sent yet")
	default:
		s.log(zap.DebugLevel, "cancel request with an unknown key", zap.Int64("rejected", s.proxy.cancels.Stats().Rejected))
	}
}

// deliverCancel connects to the server of target and sends it a CancelRequest.
func (s *session) deliverCancel(target *cancel.Target) {
	p := s.proxy
	ctx, stop := context.WithTimeout(p.ctx, min(p.connectTimeout(), cancelWait))
	defer stop()
	server, err := p.Upstream.ConnectTo(ctx, target.Address)
	send := p.cancels.Release(target, err == nil)
	if err != nil {
		failed := p.clientError(err)
		s.logSampled(zap.WarnLevel, "cancel request not delivered", failed, zap.Error(failed))
		return
	}
	defer server.Close()
	server.CloseWhenDone(p.ctx)
	if !send {
		s.log(zap.InfoLevel, "cancel request for a session that has ended")
		return
	}
	if s.sendCancel(server, target) {
		p.cancels.Processed(target)
	}
}

// sendCancel sends a CancelRequest and reports whether the server has processed it.
func (s *session) sendCancel(server *upstream.Conn, target *cancel.Target) bool {
	server.SetDeadline(time.Now().Add(cancelWait))
	request := &pgproto3.CancelRequest{ProcessID: binary.BigEndian.Uint32(target.ServerKey), SecretKey: target.ServerKey[4:]}
	_, err := server.Write(pgwire.Encode(request))
	s.proxy.cancels.Sent(err)
	if err != nil {
		s.logSampled(zap.WarnLevel, "cancel request not delivered", nil, zap.Error(err))
		return false
	}
	// The server closes the connection when it has processed the request.
	if _, err := io.Copy(io.Discard, server); netconn.IsTimeout(err) {
		s.log(zap.WarnLevel, "cancel request sent, but the server has not closed the connection", zap.String("server", target.Address), zap.Float64("waited_s", cancelWait.Seconds()))
		return false
	}
	s.log(zap.DebugLevel, "cancel request delivered", zap.String("server", target.Address))
	return true
}
