//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// ledger records what clients have written, and which writes were acknowledged. It is
// compared with the database: acknowledged rows must exist, and no others, to the byte.
type ledger struct {
	mu      sync.Mutex
	next    int64
	entries map[int64]entry // by id
}

// entry is one row, or all rows of one COPY.
type entry struct {
	rows         int
	acknowledged bool
}

// prepareLedger makes the table. Each row has the checksum of its payload, computed by its
// writer.
func prepareLedger(ctx context.Context, cluster *aurora.Cluster) error {
	conn, err := cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `create table ledger (entry bigint, row int, payload text, checksum text, primary key (entry, row));
		grant all on ledger to `+aurora.IAMUser)
	return err
}

// begin adds an entry that is about to be written. Until it is acknowledged, it may exist
// or not, as a whole.
func (l *ledger) begin(rows int) (id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = make(map[int64]entry)
	}
	l.next++
	l.entries[l.next] = entry{rows: rows}
	return l.next
}

func (l *ledger) acknowledge(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	e.acknowledged = true
	l.entries[id] = e
}

// account is the result of a comparison.
type account struct{ acknowledged, unknown, stored int }

// settle compares, while no client writes, and begins a new ledger.
func (l *ledger) settle(ctx context.Context, cluster *aurora.Cluster) (a account, err error) {
	conn, err := cluster.Admin(ctx, aurora.Database)
	if err != nil {
		return a, err
	}
	defer conn.Close(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, err := storedEntries(ctx, conn)
	if err != nil {
		return a, err
	}
	for id, e := range l.entries {
		rows, found := stored[id]
		switch {
		case e.acknowledged && !found:
			return a, fmt.Errorf("data lost: entry %d was acknowledged and does not exist", id)
		case found && rows != e.rows:
			return a, fmt.Errorf("data lost: entry %d has %d rows, not %d", id, rows, e.rows)
		case e.acknowledged:
			a.acknowledged++
		case found:
			a.stored++
		default:
			a.unknown++
		}
		delete(stored, id)
	}
	if len(stored) > 0 {
		return a, fmt.Errorf("%d entries exist that no client wrote", len(stored))
	}
	l.entries = nil
	_, err = conn.Exec(ctx, "truncate ledger")
	return a, err
}

// storedEntries returns the number of rows of each entry. All rows are unchanged.
func storedEntries(ctx context.Context, conn *pgx.Conn) (map[int64]int, error) {
	var altered int
	if err := conn.QueryRow(ctx, "select count(*) from ledger where md5(payload) <> checksum").Scan(&altered); err != nil {
		return nil, err
	}
	if altered > 0 {
		return nil, fmt.Errorf("data altered: %d rows differ from what was written", altered)
	}
	rows, err := conn.Query(ctx, "select entry, count(*) from ledger group by entry")
	if err != nil {
		return nil, err
	}
	stored := make(map[int64]int)
	var id int64
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		stored[id] = n
		return nil
	})
	return stored, err
}
