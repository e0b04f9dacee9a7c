//go:build unix

package aurora

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// standbySignal is the file that makes a server a standby when it starts.
// https://www.postgresql.org/docs/current/warm-standby.html
const standbySignal = "standby.signal"

// follow makes the data directory that of a streaming standby of c.Primary.
func (c *Cluster) follow(ctx context.Context) error {
	c.Primary.mu.Lock()
	port := c.Primary.port
	c.Primary.mu.Unlock()
	if port == 0 {
		return errors.New("the primary is not started")
	}
	return c.run(ctx, filepath.Join(c.bin, "pg_basebackup"), "-D", c.path(dataDir), "--write-recovery-conf",
		"--checkpoint=fast", "--no-sync", "-w", "-U", superuser, "-h", c.Primary.path(socketDir), "-p", strconv.Itoa(port))
}

// StartAsStandby restarts the server as a standby, which is read-only until Promote. It
// follows c.Primary, if any.
func (c *Cluster) StartAsStandby(ctx context.Context) error {
	return c.restart(ctx, func(ctx context.Context, port int, options ...string) error {
		if err := c.owner.writeFile(filepath.Join(c.path(dataDir), standbySignal), nil); err != nil {
			return err
		}
		return c.launch(ctx, port, options...)
	})
}

// Promote ends the standby mode, and returns when the server accepts writes.
func (c *Cluster) Promote(ctx context.Context) error {
	conn, err := c.Admin(ctx, "postgres")
	if err != nil {
		return fmt.Errorf("aurora: promote: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	err = conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", int(startLimit/time.Second)).Scan(&promoted)
	if err == nil && !promoted {
		err = errors.New("it took too long")
	}
	if err != nil {
		return fmt.Errorf("aurora: promote: %w", err)
	}
	return nil
}
