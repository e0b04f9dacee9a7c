//go:build unix

package aurora

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// hba is the pg_hba.conf of RDS, with ldap in place of pam, after a line for Admin.
const hba = `
local   all          all       trust
local   replication  all       trust
%s
hostssl all          all       all  scram-sha-256
hostssl replication  all       all  scram-sha-256
`

// iamHBA is added for IAM authentication. Without the lines for replication, the last line
// would let a member of rds_iam in with a password.
const iamHBA = `
hostssl all          +%[1]s  all  %[2]s
host    all          +%[1]s  all  reject
hostssl replication  +%[1]s  all  %[2]s
host    replication  +%[1]s  all  reject
`

// writeHBA writes pg_hba.conf, with or without IAM authentication.
func (c *Cluster) writeHBA(iam bool) error {
	method := fmt.Sprintf(`ldap ldapserver=%s ldapport=%d ldapprefix="%s" ldapsuffix="%s"`, loopback, c.ldap.port(), dnPrefix, dnSuffix)
	if c.NoLDAP {
		method = "password" // in clear text, too, and compared with the password of LearnToken
	}
	lines := ""
	if iam {
		lines = fmt.Sprintf(iamHBA, RDSRole, method)
	}
	return c.owner.writeFile(filepath.Join(c.path(dataDir), "pg_hba.conf"), fmt.Appendf(nil, hba, lines))
}

// SetIAM turns IAM authentication on or off for new connections, and returns when that is
// in effect. While it is off, members of RDSRole log in with a password (SCRAM), as all
// others do.
func (c *Cluster) SetIAM(ctx context.Context, on bool) error {
	if c.path(dataDir) == "" {
		return errors.New("aurora: IAM authentication: not started")
	}
	if err := c.switchIAM(ctx, on); err != nil {
		return fmt.Errorf("aurora: IAM authentication: %w", err)
	}
	return nil
}

func (c *Cluster) switchIAM(ctx context.Context, on bool) error {
	if err := c.writeHBA(on); err != nil {
		return err
	}
	before, err := c.configuredAt(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	server := c.server
	c.mu.Unlock()
	// pg_ctl reload sends SIGHUP, too.
	if err := server.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		// Later sessions are forked by a server that has read both files.
		if at, err := c.configuredAt(ctx); err == nil && at.After(before) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the server does not read its configuration again: %w", context.Cause(ctx))
		}
	}
}

// configuredAt returns when the server last read its configuration.
func (c *Cluster) configuredAt(ctx context.Context) (time.Time, error) {
	conn, err := c.Admin(ctx, "postgres")
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var at time.Time
	err = conn.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&at)
	return at, err
}
