package fakessm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/xtaci/smux"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

// readPause is the pause of the agent after each message of data.
const readPause = time.Millisecond

// sendFrom reads data and sends it to the client, until a read fails.
func (a *agent) sendFrom(conn net.Conn) error {
	packet := make([]byte, message.MaxPayload)
	for {
		a.waitToSend()
		n, err := conn.Read(packet)
		if err != nil {
			return err
		}
		a.send(message.Output, packet[:n])
		if !a.NoSleep {
			time.Sleep(readPause)
		}
	}
}

// mux forwards many connections, as streams of smux: aws/amazon-ssm-agent,
// agent/session/plugins/port/port_mux.go. Like the agent, it has a connection between the
// data channel and smux.
type mux struct {
	agent   *agent
	conn    net.Conn
	streams *smux.Session
	running sync.WaitGroup
}

func newMux(a *agent, keepAlive bool) (*mux, error) {
	near, far, err := loopback()
	if err != nil {
		return nil, err
	}
	config := smux.DefaultConfig()
	config.KeepAliveDisabled = !keepAlive
	streams, err := smux.Server(far, config)
	if err != nil {
		near.Close()
		far.Close()
		return nil, err
	}
	return &mux{agent: a, conn: near, streams: streams}, nil
}

// loopback returns both ends of a connection.
func loopback() (near, far net.Conn, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return nil, nil, err
	}
	if far, err = listener.Accept(); err != nil {
		near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

func (m *mux) receive(data []byte) error {
	_, err := m.conn.Write(data)
	return err
}

func (m *mux) disconnect() {}

func (m *mux) pump(ctx context.Context) error {
	defer context.AfterFunc(ctx, m.stop)()
	m.running.Go(m.accept)
	err := m.agent.sendFrom(m.conn)
	m.stop()
	return err
}

// accept connects one stream after another.
func (m *mux) accept() {
	for {
		stream, err := m.streams.AcceptStream()
		if err != nil {
			m.stop() // smux has ended: the keep-alive, or the session
			return
		}
		conn, err := m.agent.dial()
		if err != nil {
			m.agent.send(message.Flag, message.ConnectToPortError.Encode())
			stream.Close()
			continue
		}
		m.running.Go(func() { join(stream, conn) })
		m.running.Go(func() { join(conn, stream) })
	}
}

// join copies until src ends, and then closes dst. As in the agent, the other direction ends,
// too.
func join(dst, src io.ReadWriteCloser) {
	_, _ = io.Copy(dst, src)
	dst.Close()
}

func (m *mux) stop() {
	m.streams.Close() // closes far
	m.conn.Close()
}

func (m *mux) close() {
	m.stop()
	m.running.Wait()
}

// basic forwards one connection at a time: aws/amazon-ssm-agent,
// agent/session/plugins/port/port_basic.go.
type basic struct {
	agent  *agent
	dialed chan net.Conn // a new connection for pump

	mu   sync.Mutex
	conn net.Conn
	lost bool // the next data dials again
}

func newBasic(a *agent) (*basic, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, fmt.Errorf("Unable to connect to specified port: %w", err) //nolint:staticcheck // the agent's text
	}
	return &basic{agent: a, conn: conn, dialed: make(chan net.Conn)}, nil
}

func (b *basic) receive(data []byte) error {
	b.mu.Lock()
	lost := b.lost
	b.mu.Unlock()
	if lost {
		if err := b.dialAgain(); err != nil {
			b.agent.end(err.Error())
			return err
		}
	}
	b.mu.Lock()
	conn := b.conn
	b.mu.Unlock()
	_, err := conn.Write(data)
	return err
}

func (b *basic) dialAgain() error {
	conn, err := b.agent.dial()
	if err != nil {
		return fmt.Errorf("Unable to connect to specified port: %w", err) //nolint:staticcheck // the agent's text
	}
	b.mu.Lock()
	b.conn, b.lost = conn, false
	b.mu.Unlock()
	select {
	case b.dialed <- conn:
		return nil
	case <-b.agent.ctx.Done():
		conn.Close()
		return b.agent.ctx.Err()
	}
}

func (b *basic) disconnect() { b.close() }

// pump waits for a new connection when one has ended.
func (b *basic) pump(ctx context.Context) error {
	defer context.AfterFunc(ctx, b.close)()
	for conn := b.conn; ; {
		err := b.agent.sendFrom(conn)
		b.mu.Lock()
		b.lost = true
		b.mu.Unlock()
		conn.Close()
		select {
		case conn = <-b.dialed:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (b *basic) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn.Close()
}
