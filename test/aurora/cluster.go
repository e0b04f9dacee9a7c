//go:build unix

// Package aurora is a PostgreSQL that lets clients in as Amazon Aurora does
// with IAM authentication, for tests and demonstrations.
//
// It is the distribution's own server, with TLS and with RDS's pg_hba.conf but
// for one word: where RDS says "pam", it says "ldap" and names a small LDAP
// server inside this process. PostgreSQL thus asks a member of rds_iam for the
// password in clear text, and hands it over whole to be verified as a token:
// signature, host and port, user, region, age and so on. A refusal reads "LDAP
// authentication failed for user" where RDS writes "PAM authentication failed
// for user"; the SQLSTATE, 28000, is the same.
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

// What a Cluster is made with when its fields do not say otherwise.
const (
	DefaultHost   = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	DefaultPort   = 5432
	DefaultRegion = "eu-west-1"
)

// The services whose tokens a Cluster takes: Aurora and RDS, or Aurora DSQL.
const (
	ServiceRDS  = "rds-db"
	ServiceDSQL = "dsql"
)

// What every Cluster holds. IAMUser, OtherUser and AdminUser are members of
// RDSRole and log in with tokens; PlainUser is not, and logs in with
// PlainPassword (SCRAM).
const (
	Database      = "mydb" // owned by IAMUser
	RDSRole       = "rds_iam"
	IAMUser       = "iam_user"
	OtherUser     = "iam_other"
	AdminUser     = "admin" // has an action of its own with ServiceDSQL
	PlainUser     = "plain_user"
	PlainPassword = "plain_password"
	superuser     = "rdsadmin" // over the unix socket only: see Admin
)

// startLimit bounds Start and the like where the context does not: a server
// that takes this long never comes up.
const startLimit = time.Minute

// Cluster is one PostgreSQL server and all that belongs to it. The zero value
// is ready to Start. Fields must not change after that.
//
// Start, Restart, StartOnNewPort, StartAsStandby and Close must not run at the same
// time as each other. All other methods are safe for concurrent use, from the start.
type Cluster struct {
	// Host is the name that tokens must be signed for, and that the certificate
	// is for. Zero: DefaultHost. Nothing resolves it: connect to Addr.
	Host string
	// Port is the one that tokens of ServiceRDS must be signed for; it is not
	// where the server listens. Zero: DefaultPort.
	Port int
	// ListenPort is where the server listens. Zero: at a free port.
	ListenPort int
	// Region is what tokens must be signed for. Zero: DefaultRegion.
	Region string
	// Service is ServiceRDS or ServiceDSQL, and zero: ServiceRDS. A token of
	// Aurora DSQL is for the host without a port, has no DBUser, has the action
	// DbConnectAdmin for AdminUser and DbConnect for others, and may live a week.
	// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html
	Service string
	// Keys may log in, as every member of RDSRole. Nil: DefaultKey and
	// DefaultSessionKey.
	Keys []sigv4.Key
	// Given is told of every password that a client logs in with as a member of
	// RDSRole, before it is verified. Nil: nobody is.
	Given func(password string)
	// Settings are put in postgresql.conf, over the package's own.
	Settings map[string]string
	// Certificate is what the server shows. Zero: for Host, by the CA of CAFile.
	Certificate Certificate
	// Programs is the directory with PostgreSQL's programs. Zero: see BinDir.
	Programs string
	// NoLDAP is for a server that was built without LDAP. It lets nobody in with
	// a token but who has one that LearnToken took.
	NoLDAP bool
	// Primary is a started Cluster of the same Programs that this one is to be a
	// streaming standby of, with its Settings below those of this one. Nil: Start
	// makes a database cluster of its own.
	Primary *Cluster

	verifier verifier

	// mu guards what follows. Start, Restart and the like, and Close alone
	// change any of it but frozen, and may thus read that without the lock.
	mu        sync.Mutex
	dir       string   // of everything on disk; empty: not started
	bin       string   // of PostgreSQL's programs
	owner     *account // who runs the server; nil: whoever runs this
	authority *authority
	ldap      *ldapServer
	janitor   *janitor
	server    *process // nil: never launched
	port      int      // where server listens
	frozen    bool
}

// Start makes a new database cluster and returns when it takes logins. All that
// is written is in one temporary directory, below $TMPDIR or else in memory if
// there is room, until Close or until this process ends, however it ends. The
// first Start of a process takes longer than the others: what it makes once for
// all of them has a directory of its own, which stays until the process ends.
// The error has the end of the server's log; where no PostgreSQL is installed
// it is an ErrNotInstalled.
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
		_ = c.Close() // the first error is the one that tells
		return fmt.Errorf("aurora: %w", err)
	}
	return nil
}

// start is Start, but leaves clearing up to the caller.
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

// copyTemplate fills the data directory.
func (c *Cluster) copyTemplate(ctx context.Context) error {
	template, err := templateFor(ctx, c.bin)
	if err != nil {
		return err
	}
	return c.run(ctx, "cp", "-R", template+"/.", c.path(dataDir))
}

// prepare makes the directory, and sees to it that it will be removed.
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

// serveAround gets ready what the server needs from this process: a CA, and
// someone who verifies tokens.
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
	if err := os.Chmod(ca, 0o644); err != nil { // whatever the umask
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

// bind is the verifier's, before a witness.
func (c *Cluster) bind(ctx context.Context, dn, password string) bool {
	if c.Given != nil {
		c.Given(password)
	}
	return c.verifier.bind(ctx, dn, password)
}

// Close ends the server at once and removes all that is the Cluster's. It may
// be called more than once, and without Start.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stopErr := c.Stop(ctx, Immediate)

	c.mu.Lock()
	defer c.mu.Unlock()
	if stopErr != nil && c.server != nil {
		// A server that does not hear the signal is of no more use.
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

// Addr is where the server listens, 127.0.0.1:port, or did before it was
// stopped. It is empty before Start and after Close.
func (c *Cluster) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.port == 0 {
		return ""
	}
	return net.JoinHostPort(loopback, strconv.Itoa(c.port))
}

// CAFile is the path of the PEM file with the CA that issues the server's
// certificate. Everyone on this machine may read it. It is empty before Start.
func (c *Cluster) CAFile() string { return c.path(caFile) }

// Log is all that the server has written to its log: every connection, login
// and error, but never a password.
func (c *Cluster) Log() (string, error) {
	log, err := os.ReadFile(c.path(logFile))
	return string(log), err
}

// host is the name that the stand-in goes by.
func (c *Cluster) host() string { return cmp.Or(c.Host, DefaultHost) }

// path is that of a file in the Cluster's directory; empty without one.
func (c *Cluster) path(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir == "" {
		return ""
	}
	return filepath.Join(c.dir, name)
}
