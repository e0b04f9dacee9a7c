//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// hostile are clients of the soak that attack, or crash.
var hostile = []kind{
	{name: "garbage", count: 1, pause: 50 * time.Millisecond, work: (*client).garbage},
	{name: "silent", count: 3, pause: 50 * time.Millisecond, work: (*client).silent},
	{name: "one that leaves in the middle of its login", count: 1, pause: 50 * time.Millisecond, work: (*client).leave},
	{name: "one that is gone in the middle of a COPY", count: 1, pause: 200 * time.Millisecond, work: (*client).crash},
	{name: "a user that is not there", count: 1, pause: 2 * time.Second, work: (*client).rejected},
}

func (c *client) dial(ctx context.Context) (*net.TCPConn, error) {
	conn, err := c.place.link.Dial(ctx, "tcp", listenAddress)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// garbage sends what no client would.
func (c *client) garbage(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	b := make([]byte, 4+c.random.IntN(20_000))
	for i := range b {
		b[i] = byte(c.random.Uint32())
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write(b) // the answer may cut it off
	var silent net.Error
	if _, err := io.ReadAll(conn); errors.As(err, &silent) && silent.Timeout() {
		return errors.New("garbage was not answered")
	}
	return nil
}

// silent sends nothing.
func (c *client) silent(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	sleep(ctx, time.Duration(c.random.IntN(3000))*time.Millisecond)
	return nil
}

// leave disconnects at any time of a login.
func (c *client) leave(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	packet, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": aurora.IAMUser, "database": aurora.Database}}).Encode(nil)
	if err != nil {
		return err
	}
	_, _ = conn.Write(packet[:c.random.IntN(len(packet)+1)])
	sleep(ctx, time.Duration(c.random.IntN(40))*time.Millisecond)
	return conn.SetLinger(-c.random.IntN(2)) // with or without a reset
}

// crash disconnects in the middle of a large result.
func (c *client) crash(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	socket := conn.PgConn().Conn().(*net.TCPConn)
	gone := time.AfterFunc(time.Duration(c.random.IntN(200))*time.Millisecond, func() {
		_ = socket.SetLinger(0)
		socket.Close()
	})
	defer gone.Stop()
	_, _ = conn.PgConn().CopyTo(ctx, io.Discard, "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout")
	socket.Close()
	return nil
}

// rejected logs in as a user that the server rejects.
func (c *client) rejected(ctx context.Context) error {
	config, err := pgx.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable user=" + aurora.PlainUser + " database=" + aurora.Database)
	if err != nil {
		return err
	}
	config.DialFunc = c.place.link.Dial
	if _, err := pgx.ConnectConfig(ctx, config); (observation{err: err}).received() != "28000" {
		return errors.Join(errors.New("a user without rds_iam was not rejected with 28000"), err)
	}
	return nil
}
