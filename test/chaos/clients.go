//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/md5" // a checksum that PostgreSQL has built in, too
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// opLimit bounds an operation. It expires only if something hangs.
const opLimit = 90 * time.Second

// kind is a way to use a database.
type kind struct {
	name  string
	count int           // of concurrent clients
	pause time.Duration // between two operations of a client
	// work runs one operation.
	work func(c *client, ctx context.Context) error
	// lasts makes work run until the context is done, and end without an error.
	lasts bool
}

// kinds are the kinds of the load. Each operation begins with a login.
var kinds = []kind{
	{name: "short", count: 4, pause: 50 * time.Millisecond, work: (*client).short},
	{name: "long", count: 3, pause: 20 * time.Millisecond, work: (*client).long},
	{name: "copy in", count: 1, pause: 300 * time.Millisecond, work: (*client).copyIn},
	{name: "copy out", count: 1, pause: 300 * time.Millisecond, work: (*client).copyOut},
	{name: "listen", count: 1, pause: 100 * time.Millisecond, work: (*client).listen},
	{name: "cancel", count: 1, pause: 100 * time.Millisecond, work: (*client).cancel},
}

// client repeats one operation.
type client struct {
	place  *place
	ledger *ledger
	random *rand.Rand
	// waited is the longest login, and stalled the longest wait for an answer in a session.
	waited, stalled time.Duration
}

// loginError is the error of a client without a session.
type loginError struct{ error }

func (e loginError) Unwrap() error { return e.error }

func (c *client) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable user=" + aurora.IAMUser + " database=" + aurora.Database)
	if err != nil {
		return nil, err
	}
	config.DialFunc = c.place.link.Dial
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	began := time.Now()
	conn, err := pgx.ConnectConfig(ctx, config)
	c.waited = max(c.waited, time.Since(began))
	if err != nil {
		return nil, loginError{err}
	}
	return conn, nil
}

// with runs a function in a session, from login to end.
func (c *client) with(ctx context.Context, use func(conn *pgx.Conn) error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	err = use(conn)
	// After an error, the Terminate may not arrive.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
	return err
}

// short logs in for one transaction.
func (c *client) short(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error { return c.insert(ctx, conn) })
}

// long runs many transactions in a session, with pauses.
func (c *client) long(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error {
		for range 40 {
			if err := c.insert(ctx, conn); err != nil {
				return err
			}
			if !sleep(ctx, 30*time.Millisecond) {
				return nil
			}
		}
		return nil
	})
}

// insert writes a row and reads it back.
func (c *client) insert(ctx context.Context, conn *pgx.Conn) error {
	id := c.ledger.begin(1)
	payload, sum := c.payload(1 + c.random.IntN(20_000))
	began := time.Now()
	defer func() { c.stalled = max(c.stalled, time.Since(began)) }()
	if _, err := conn.Exec(ctx, "insert into ledger values ($1, 1, $2, $3)", id, payload, sum); err != nil {
		return err
	}
	c.ledger.acknowledge(id)
	var back string
	if err := conn.QueryRow(ctx, "select payload from ledger where entry = $1", id).Scan(&back); err != nil {
		return err
	}
	if back != payload {
		return wrongData("a row differs from what was written")
	}
	return nil
}

// wrongData reports data that differ from what was written.
type wrongData string

func (e wrongData) Error() string { return string(e) }

func (c *client) payload(size int) (text, sum string) {
	b := make([]byte, (size+1)/2)
	for i := range b {
		b[i] = byte(c.random.Uint32())
	}
	text = hex.EncodeToString(b)[:size]
	return text, checksum([]byte(text))
}

func checksum(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

const bulkRows = 3000 // of 1 to 2 KB

func (c *client) copyIn(ctx context.Context) error {
	id := c.ledger.begin(bulkRows)
	var rows bytes.Buffer
	for row := range bulkRows {
		payload, sum := c.payload(1000 + c.random.IntN(1000))
		fmt.Fprintf(&rows, "%d\t%d\t%s\t%s\n", id, row, payload, sum)
	}
	return c.with(ctx, func(conn *pgx.Conn) error {
		tag, err := conn.PgConn().CopyFrom(ctx, &rows, "copy ledger from stdin")
		if err != nil {
			return err
		}
		if tag.RowsAffected() != bulkRows {
			return wrongData("a COPY was acknowledged for another number of rows")
		}
		c.ledger.acknowledge(id)
		return nil
	})
}

// bulkOut is a large result, and bulkOutSum its checksum.
func bulkOut(rows int) string {
	return fmt.Sprintf("copy (select i, md5(i::text) || repeat(md5((i * 7)::text), 50) from generate_series(1, %d) i) to stdout", rows)
}

func bulkOutSum(rows int) string {
	sum := md5.New()
	for i := 1; i <= rows; i++ {
		fmt.Fprintf(sum, "%d\t%s%s\n", i, checksum(fmt.Append(nil, i)), strings.Repeat(checksum(fmt.Append(nil, i*7)), 50))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// copiedRows is the number of rows that copyOut reads.
const copiedRows = 5000

var copiedSum = sync.OnceValue(func() string { return bulkOutSum(copiedRows) })

func (c *client) copyOut(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error {
		sum := md5.New()
		if _, err := conn.PgConn().CopyTo(ctx, sum, bulkOut(copiedRows)); err != nil {
			return err
		}
		if hex.EncodeToString(sum.Sum(nil)) != copiedSum() {
			return wrongData("a COPY ended without an error, but differs from what the server sent")
		}
		return nil
	})
}

// listen receives the notifications of another session, complete and in order.
func (c *client) listen(ctx context.Context) error {
	const messages = 20
	channel := fmt.Sprintf("news%d", c.random.Uint32())
	return c.with(ctx, func(listener *pgx.Conn) error {
		if _, err := listener.Exec(ctx, "listen "+channel); err != nil {
			return err
		}
		return c.with(ctx, func(speaker *pgx.Conn) error {
			for i := range messages {
				if _, err := speaker.Exec(ctx, "select pg_notify($1, $2)", channel, fmt.Sprint(i)); err != nil {
					return err
				}
			}
			for i := range messages {
				heard, err := listener.WaitForNotification(ctx)
				switch {
				case err != nil:
					return err
				case heard.Payload != fmt.Sprint(i):
					return wrongData("notifications came out of order")
				}
			}
			return nil
		})
	})
}

// cancel runs a query and cancels it.
func (c *client) cancel(ctx context.Context) error {
	return c.with(ctx, func(conn *pgx.Conn) error {
		ended, asked := make(chan struct{}), make(chan struct{})
		go askToCancel(ctx, conn, ended, asked)
		_, err := conn.Exec(ctx, "select pg_sleep(60)")
		close(ended)
		<-asked
		var said *pgconn.PgError
		switch {
		case errors.As(err, &said) && said.Code == "57014":
			return nil
		case err == nil:
			return wrongData("a query was not cancelled")
		}
		return err
	})
}

// askToCancel repeats cancel requests until the query has ended: one that arrives before
// the query, or is lost, has no effect.
func askToCancel(ctx context.Context, conn *pgx.Conn, ended <-chan struct{}, asked chan<- struct{}) {
	defer close(asked)
	for {
		select {
		case <-time.After(50 * time.Millisecond):
			_ = conn.PgConn().CancelRequest(ctx)
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sleep waits, and reports whether the context is still open.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
