package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/grant"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/tls"
)

type grantCommand struct {
	Endpoint string   `arg:"" form:"endpoint" help:"The database, by an endpoint of its writer."`
	User     []string `form:"user" help:"Database users to create if they do not exist, and to grant rds_iam." placeholder:"USER"`

	Privileges string   `help:"Privileges to grant in --schema of --database: readonly, readwrite or owner (may also create objects)." enum:",readonly,readwrite,owner" default:"" placeholder:"LEVEL"`
	Database   string   `form:"name" help:"Database to log in to, for --privileges and --init, which require it. Default without them: postgres. Users exist in all databases of the server." placeholder:"NAME"`
	Schema     []string `form:"name" help:"Schemas for --privileges, and the search path of --init. Default: public." placeholder:"NAME"`
	Init       string   `form:"file" help:"SQL file to run as the administrator after the grants, in the same transaction. It runs each time. - is standard input." placeholder:"FILE"`

	AdminUser      string   `form:"user" group:"Administrator" help:"Administrator to log in as, with the password in PGPASSWORD or --password-file. Default: postgres, or the user in --admin-secret." placeholder:"USER"`
	PasswordFile   string   `form:"password" group:"Administrator" help:"File with the administrator's password. Default: PGPASSWORD." placeholder:"FILE"`
	AdminSecret    string   `form:"secret" group:"Administrator" help:"ARN of the administrator's secret in Secrets Manager, or managed for the secret that RDS manages for this database." placeholder:"ARN"`
	AdminIAM       bool     `group:"Administrator" name:"admin-iam" help:"Log the administrator in with a token."`
	GiveUpPassword []string `form:"user" group:"Administrator" help:"Existing users whose password logins may end: users of --user, the administrator, or users that --init makes members of those. Without it, grant changes nothing if an existing user may log in with a password." placeholder:"USER"`
	credentialFlags

	connectFlags
	Timeout time.Duration `help:"Timeout of the whole command. Default: 30s." default:"30s" placeholder:"DURATION"`
	DryRun  bool          `help:"Print the SQL, and do not connect."`

	endpoint endpoint.Endpoint // set by Validate
}

// masterUser is the default name of the master user in the AWS console.
const masterUser = "postgres"

// Validate checks all flags that can be checked without a connection.
func (c *grantCommand) Validate(ctx context.Context) (err error) {
	flags := c.flags()
	flags.Database, flags.Via = c.Database, c.Via
	if c.endpoint, err = endpoint.Parse(ctx, c.Endpoint, flags); err != nil {
		return err
	}
	trimNames(c.User)
	trimNames(c.Schema)
	trimNames(c.GiveUpPassword)
	if c.endpoint.User != "" { // a key takes precedence over its flag
		c.User = []string{c.endpoint.User}
	}
	switch {
	case c.endpoint.Name.Kind == auth.DSQL:
		return fmt.Errorf("%s is Aurora DSQL, which has no rds_iam; as the user \"admin\", run: AWS IAM GRANT \"user\" TO 'ROLE_ARN'", c.endpoint.Host)
	case len(c.User) == 0:
		return errors.New("--user is required: the database user to create")
	case c.Timeout <= 0:
		return fmt.Errorf("--timeout %s: must be positive", c.Timeout)
	}
	for _, check := range []func() error{c.checkUsers, c.checkDatabase, c.checkLogin} {
		if err := check(); err != nil {
			return err
		}
	}
	c.endpoint.Database = cmp.Or(c.endpoint.Database, "postgres")
	return checkName("--database", c.endpoint.Database)
}

func (c *grantCommand) checkUsers() error {
	for _, user := range c.User {
		if err := checkName("--user", user); err != nil {
			return err
		}
		if grant.IsPredefined(user) {
			return fmt.Errorf("--user %q: a predefined role of PostgreSQL or AWS, not a user", user)
		}
	}
	return nil
}

// checkDatabase requires --database for --privileges and --init: the default is rarely intended.
func (c *grantCommand) checkDatabase() error {
	switch inDatabase := c.Privileges != "" || c.Init != ""; {
	case !inDatabase && len(c.Schema) > 0:
		return errors.New("--schema requires --privileges or --init")
	case !inDatabase:
		return nil
	case c.endpoint.Database == "":
		return errors.New("--database is required: the database of --privileges and --init")
	}
	if len(c.Schema) == 0 {
		c.Schema = []string{"public"}
	}
	for _, schema := range c.Schema {
		if err := checkName("--schema", schema); err != nil {
			return err
		}
		if strings.HasPrefix(schema, "pg_") || schema == "information_schema" {
			return fmt.Errorf("--schema %q: a system schema of PostgreSQL", schema)
		}
	}
	return nil
}

// checkLogin requires that the flags give one login of the administrator.
func (c *grantCommand) checkLogin() error {
	switch {
	case c.AdminIAM && c.AdminSecret != "":
		return errors.New("--admin-iam and --admin-secret exclude each other: the administrator logs in with a token or a password")
	case c.AdminIAM && c.PasswordFile != "":
		return errors.New("--admin-iam and --password-file exclude each other: the administrator logs in with a token or a password")
	case c.AdminSecret != "" && c.PasswordFile != "":
		return errors.New("--admin-secret and --password-file exclude each other")
	case c.AdminUser != "" || c.AdminSecret == "":
		return c.checkAdmin(c.adminUser())
	default:
		return nil // the secret contains the user
	}
}

// checkAdmin returns an error if the administrator could lose its password login, unless
// --give-up-password permits that.
func (c *grantCommand) checkAdmin(admin string) error {
	if err := checkName("--admin-user", admin); err != nil {
		return err
	}
	for _, user := range c.GiveUpPassword {
		if c.Init == "" && user != admin && !slices.Contains(c.User, user) {
			return fmt.Errorf("--give-up-password must name users of --user, or the administrator %q", admin)
		}
	}
	if slices.Contains(c.User, admin) && !c.AdminIAM && !slices.Contains(c.GiveUpPassword, admin) {
		return fmt.Errorf("\"%s\" is the administrator: granting it rds_iam would end its password logins; give --user another user, or end them with --give-up-password %s", admin, text.ShellQuote(text.FlagList(admin)))
	}
	return nil
}

func (c *grantCommand) adminUser() string { return cmp.Or(c.AdminUser, masterUser) }

// Run creates the users and grants them rds_iam and privileges, all or nothing. It prints the
// changes after they are committed.
func (c *grantCommand) Run(ctx context.Context, std streams) error {
	g := &grant.Grant{
		Host:           c.endpoint.Host,
		Address:        c.endpoint.Address(),
		Database:       c.endpoint.Database,
		Users:          c.User,
		Level:          grant.Levels[c.Privileges],
		Schemas:        c.Schema,
		GiveUpPassword: c.GiveUpPassword,
		Timeout:        c.Timeout,
	}
	if c.Init != "" {
		// Before signals are handled: a signal ends the wait for standard input.
		script, err := grant.ReadScript(c.Init)
		if err != nil {
			return usageError{err}
		}
		g.Script = script
	}
	if c.DryRun {
		g.Admin.User = c.adminUser()
		g.WriteSQL(std.out)
		return nil
	}
	return c.execute(ctx, g, std)
}

// execute runs a grant on the endpoint.
func (c *grantCommand) execute(ctx context.Context, g *grant.Grant, std streams) error {
	roots, err := tls.LoadRoots(c.CAFile)
	if err != nil {
		return usagef("--ca-file: %w", err)
	}
	password, err := c.password(unsetLibpqEnv())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if g.Admin, err = c.admin(ctx, password); err != nil {
		return err
	}
	if err := c.checkAdmin(g.Admin.User); err != nil {
		return usageError{err}
	}
	forward, err := c.endpoint.Forward(ctx, new(endpoint.Identities), nil)
	if err != nil {
		return usageError{err}
	}
	defer endpoint.StartAll(forward)()
	g.Dialer = c.endpoint.Dialer(forward, roots)
	g.Dialer.Timeout = c.Timeout
	result, err := g.Run(ctx)
	stop() // from here on, a signal ends the process at once
	switch {
	case errors.As(err, new(*grant.PasswordLoginsError)), errors.As(err, new(*grant.OtherLoginsError)):
		return usageError{err}
	case err != nil:
		return err
	}
	for _, line := range result.Changes {
		fmt.Fprintln(std.out, text.OneLine(line))
	}
	for _, note := range result.Notes {
		fmt.Fprintln(std.err, "iamproxy: note:", text.OneLine(note))
	}
	fmt.Fprintln(std.out, "next:", c.endpoint.CheckCommand(c.User[0], c.endpoint.Database, c.CAFile))
	return nil
}

// password returns the administrator's password: that of the file, or else that of PGPASSWORD.
// There is no flag for it, since other users can read flags.
func (c *grantCommand) password(fromEnv string) (string, error) {
	if c.PasswordFile == "" {
		return fromEnv, nil
	}
	content, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		// A password in its place must not be repeated.
		return "", usagef("--password-file: could not read the file: %w", text.WithoutPath(err))
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", usagef("--password-file: the file is empty")
	}
	return password, nil
}

// admin returns the login of the administrator.
func (c *grantCommand) admin(ctx context.Context, password string) (grant.Admin, error) {
	if !c.AdminIAM && c.AdminSecret == "" {
		if password == "" {
			return grant.Admin{}, usagef("no password for user %q: set PGPASSWORD, or give --password-file, --admin-secret or --admin-iam", c.adminUser())
		}
		return grant.PasswordAdmin(c.adminUser(), password), nil
	}
	identity, err := new(endpoint.Identities).Load(ctx, c.endpoint)
	if err != nil {
		return grant.Admin{}, usageError{err}
	}
	if c.AdminIAM {
		return grant.TokenAdmin(ctx, c.adminUser(), c.endpoint.Tokens(identity))
	}
	config, err := identity.Config(ctx, c.endpoint.Region)
	if err != nil {
		return grant.Admin{}, text.WithAdvice(err)
	}
	admin, err := grant.SecretAdmin(ctx, &rdsapi.Client{Config: config}, c.AdminSecret, c.endpoint.Host)
	if err == nil && c.AdminUser != "" && c.AdminUser != admin.User {
		err = usagef("--admin-user %q: the secret is for user %q; remove --admin-user", c.AdminUser, admin.User)
	}
	return admin, err
}
