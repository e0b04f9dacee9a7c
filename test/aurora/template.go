//go:build unix

package aurora

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// templates has a stopped database cluster for each directory of PostgreSQL's programs,
// with what all Clusters start with. Copying it is many times faster than initdb. The
// janitors remove them when this process ends.
var templates = struct {
	sync.Mutex
	byBin map[string]*Cluster
}{byBin: make(map[string]*Cluster)}

// templateFor returns the data directory of the template for the programs in bin, and makes
// it if there is none.
func templateFor(ctx context.Context, bin string) (string, error) {
	templates.Lock()
	defer templates.Unlock()
	if t := templates.byBin[bin]; t != nil {
		// A program that cleans up temporary files may have removed it.
		if _, err := os.Stat(filepath.Join(t.path(dataDir), "PG_VERSION")); err == nil {
			return t.path(dataDir), nil
		}
		_ = t.Close() // nothing is left to be closed badly
		delete(templates.byBin, bin)
	}
	t := &Cluster{Programs: bin}
	if err := t.becomeTemplate(ctx); err != nil {
		_ = t.Close() // the first error is reported
		return "", err
	}
	templates.byBin[bin] = t
	return t.path(dataDir), nil
}

// becomeTemplate makes the database cluster, and starts it to populate it, without TLS,
// LDAP and TCP.
func (c *Cluster) becomeTemplate(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	err := c.run(ctx, filepath.Join(c.bin, "initdb"), "-D", c.path(dataDir), "-U", superuser,
		"--auth-local=trust", "--auth-host=reject", "-N", "-E", "UTF8", "--locale=C.UTF-8",
		"--wal-segsize=1") // MiB: less to copy
	if err != nil {
		return err
	}
	if err := c.addSettings(settings); err != nil {
		return err
	}
	if err := c.launchAnywhere(ctx, 0, "-h", ""); err != nil {
		return err
	}
	if err := c.populate(ctx); err != nil {
		return err
	}
	return c.Stop(ctx, Fast)
}

// populate makes the roles and the database.
func (c *Cluster) populate(ctx context.Context) error {
	conn, err := c.Admin(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		"CREATE ROLE " + RDSRole,
		"CREATE ROLE " + IAMUser + " LOGIN IN ROLE " + RDSRole,
		"CREATE ROLE " + OtherUser + " LOGIN IN ROLE " + RDSRole,
		"CREATE ROLE " + AdminUser + " LOGIN IN ROLE " + RDSRole,
		"CREATE ROLE " + PlainUser + " LOGIN PASSWORD '" + PlainPassword + "'",
		"CREATE DATABASE " + Database + " OWNER " + IAMUser,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql[:len("CREATE ROLE")], err)
		}
	}
	return nil
}
