//go:build unix

// Package aurora runs a PostgreSQL server that authenticates clients as Amazon Aurora does
// with IAM authentication, for tests and demonstrations.
//
// It is the distribution's own server with TLS. Its pg_hba.conf is that of RDS but for one
// word: RDS uses "pam", and this one "ldap", with a small LDAP server inside this process.
// PostgreSQL requests a password in clear text from members of rds_iam and passes it on
// unchanged. The LDAP server verifies it as a token: signature, host and port, user,
// region, age and so on. The error message has "LDAP authentication failed for user" where
// RDS writes "PAM authentication failed for user". The SQLSTATE, 28000, is the same.
package aurora

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// The defaults of a Cluster.
const (
	DefaultHost   = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	DefaultPort   = 5432
	DefaultRegion = "eu-west-1"
)

// The services whose tokens a Cluster accepts: Aurora and RDS, or Aurora DSQL.
const (
	ServiceRDS  = "rds-db"
	ServiceDSQL = "dsql"
)

// The contents of every Cluster. IAMUser, OtherUser and AdminUser are members of RDSRole
// and log in with tokens. PlainUser logs in with PlainPassword (SCRAM).
const (
	Database      = "mydb" // owned by IAMUser
	RDSRole       = "rds_iam"
	IAMUser       = "iam_user"
	OtherUser     = "iam_other"
	AdminUser     = "admin" // requires a separate action with ServiceDSQL
	PlainUser     = "plain_user"
	PlainPassword = "plain_password"
	superuser     = "rdsadmin" // over the unix socket only: see Admin
)

// startLimit bounds Start and the like where the context does not. A server that takes
// longer does not start at all.
const startLimit = time.Minute

// Cluster is one PostgreSQL server with its data and its verifier of tokens. The zero value
// is ready to Start. The fields must not change after that.
//
// Start, Restart, StartOnNewPort, StartAsStandby and Close must not run concurrently. All
// other methods are safe for concurrent use, even before Start.
type Cluster struct {
	// Host is the name in tokens and in the certificate. Zero: DefaultHost. It does not
	// resolve: clients connect to Addr.
	Host string
	// Port is the port in tokens of ServiceRDS. It is not the port on which the server
	// listens. Zero: DefaultPort.
	Port int
	// ListenPort is the port on which the server listens. Zero: a free port.
	ListenPort int
	// Region is the region in tokens. Zero: DefaultRegion.
	Region string
	// Service is ServiceRDS or ServiceDSQL. Zero: ServiceRDS. A token of Aurora DSQL has
	// the host without a port and no DBUser. Its action is DbConnectAdmin for AdminUser and
	// DbConnect for others, and it may be valid for a week.
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html
	Service string
	// Keys may sign tokens, for all members of RDSRole. Nil: DefaultKey and
	// DefaultSessionKey.
	Keys []sigv4.Key
	// Given, if not nil, is called with every password of a member of RDSRole, before it is
	// verified.
	Given func(password string)
	// Settings are added to postgresql.conf and override those of this package.
	Settings map[string]string
	// Certificate is the server's certificate. Zero: for Host, issued by the CA of CAFile.
	Certificate Certificate
	// Programs is the directory with PostgreSQL's programs. Zero: as BinDir returns.
	Programs string
	// NoLDAP is set for a server that was built without LDAP. It accepts no tokens but
	// those of LearnToken.
	NoLDAP bool
	// Primary, if not nil, is a started Cluster of the same Programs. This one becomes its
	// streaming standby, and overrides its Settings.
	Primary *Cluster

	verifier verifier

	// mu guards the fields below. Only Start, Restart and the like, and Close change them,
	// except frozen, and may read them without the lock.
	mu        sync.Mutex
	dir       string   // on disk; empty: not started
	bin       string   // of PostgreSQL's programs
	owner     *account // runs the server; nil: the user of this process
	authority *authority
	ldap      *ldapServer
	janitor   *janitor
	server    *process // nil: never started
	port      int      // of server
	frozen    bool
}

// Start makes a new database cluster and returns when it accepts logins. All files are in
// one temporary directory, below $TMPDIR or in memory, until Close or the end of this
// process. The first Start of a process takes longer than the others: it makes a template,
// which exists until the process ends. The error includes the end of the server's log. It
// is an ErrNotInstalled if PostgreSQL is not installed.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	started := c.dir != ""
	c.mu.Unlock()
	if started {
		return errors.New("aurora: already started")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.start(ctx); err != nil {
		_ = c.Close() // the first error is reported
		return fmt.Errorf("aurora: %w", err)
	}
	return nil
}

// start is Start without the cleanup.
func (c *Cluster) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.serveAround(); err != nil {
		return err
	}
	fill := c.copyTemplate
	if c.Primary != nil {
		fill = c.follow
	}
	if err := fill(ctx); err != nil {
		return err
	}
	if err := c.configure(); err != nil {
		return err
	}
	if c.ListenPort != 0 {
		return c.launch(ctx, c.ListenPort)
	}
	return c.launchAnywhere(ctx, 0)
}

// copyTemplate copies the data directory.
func (c *Cluster) copyTemplate(ctx context.Context) error {
	template, err := templateFor(ctx, c.bin)
	if err != nil {
		return err
	}
	return c.run(ctx, "cp", "-R", template+"/.", c.path(dataDir))
}

// prepare makes the directory, which the janitor removes.
func (c *Cluster) prepare() error {
	bin := c.Programs
	if bin == "" {
		var err error
		if bin, err = BinDir(); err != nil {
			return err
		}
	}
	owner, err := unprivileged()
	if err != nil {
		return err
	}
	dir, err := makeDir(owner)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dir, c.bin, c.owner = dir, bin, owner
	c.janitor, err = startJanitor(dir)
	return err
}

// serveAround starts what the server needs from this process: a CA and the LDAP server.
func (c *Cluster) serveAround() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.authority, err = newAuthority("Stand-in RDS Root CA"); err != nil {
		return err
	}
	ca := filepath.Join(c.dir, caFile)
	if err := os.WriteFile(ca, c.authority.pem(), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(ca, 0o644); err != nil { // independent of the umask
		return err
	}
	keys := c.Keys
	if keys == nil {
		keys = []sigv4.Key{DefaultKey, DefaultSessionKey}
	}
	region := cmp.Or(c.Region, DefaultRegion)
	switch cmp.Or(c.Service, ServiceRDS) {
	case ServiceRDS:
		port := strconv.Itoa(cmp.Or(c.Port, DefaultPort))
		c.verifier.expect(ServiceRDS, net.JoinHostPort(c.host(), port), region, keys)
	case ServiceDSQL:
		c.verifier.expect(ServiceDSQL, c.host(), region, keys)
	default:
		return fmt.Errorf("no such service: %s", c.Service)
	}
	c.ldap, err = startLDAP(c.bind)
	return err
}

// bind calls Given, and then the verifier.
func (c *Cluster) bind(ctx context.Context, dn, password string) bool {
	if c.Given != nil {
		c.Given(password)
	}
	return c.verifier.bind(ctx, dn, password)
}

// Close stops the server at once and removes the files of the Cluster. It may be called
// repeatedly, and without Start.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stopErr := c.Stop(ctx, Immediate)

	c.mu.Lock()
	defer c.mu.Unlock()
	if stopErr != nil && c.server != nil {
		// A server that does not react to the signal is killed.
		c.server.kill()
	}
	if c.ldap != nil {
		c.ldap.close()
	}
	var janitorErr, removeErr error
	if c.janitor != nil {
		janitorErr = c.janitor.close()
	}
	if c.dir != "" {
		removeErr = os.RemoveAll(c.dir)
	}
	c.dir, c.ldap, c.janitor, c.server, c.port = "", nil, nil, nil, 0
	if err := cmp.Or(stopErr, janitorErr, removeErr); err != nil {
		return fmt.Errorf("aurora: close: %w", err)
	}
	return nil
}

// Addr returns the address of the server, 127.0.0.1:port, even while it is stopped. It is
// empty before Start and after Close.
func (c *Cluster) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.port == 0 {
		return ""
	}
	return net.JoinHostPort(loopback, strconv.Itoa(c.port))
}

// CAFile returns the path of the PEM file with the CA that issues the server's certificate.
// All users may read it. It is empty before Start.
func (c *Cluster) CAFile() string { return c.path(caFile) }

// Log returns the server's log: every connection, login and error, but never a password.
func (c *Cluster) Log() (string, error) {
	log, err := os.ReadFile(c.path(logFile))
	return string(log), err
}

// host returns the name in tokens and in the certificate.
func (c *Cluster) host() string { return cmp.Or(c.Host, DefaultHost) }

// path returns the path of a file in the Cluster's directory, or "" if there is none.
func (c *Cluster) path(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == "" {
		return ""
	}
	return filepath.Join(c.dir, name)
}
