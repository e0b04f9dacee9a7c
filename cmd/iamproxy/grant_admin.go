package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// masterUser is the name that AWS proposes for the master user.
const masterUser = "postgres"

// managed is the word for the secret that RDS keeps for a database.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
const managed = "managed"

// administrator is who grants.
type administrator struct {
	user, password string
	// renew returns the password or the token as it is now. Nil: it stays as it is.
	renew func(context.Context) (string, error)
	// hasToken reports whether password is a token, which must not reach a server
	// that asks for anything else.
	hasToken bool
	// refusal is what to do where the server does not take the password. It may have to
	// ask AWS.
	refusal func(context.Context) string
}

// advice is refusal, even if the time is up.
func (a administrator) advice(ctx context.Context) string {
	ctx, cancel := finishing(ctx)
	defer cancel()
	return a.refusal(ctx)
}

func (c *grantCommand) administrator(ctx context.Context, e endpoint, password string) (administrator, error) {
	switch {
	case c.AdminIAM:
		return c.iamAdministrator(ctx, e)
	case c.AdminSecret != "":
		return c.secretAdministrator(ctx, e)
	}
	user := cmp.Or(c.AdminUser, masterUser)
	if password == "" {
		return administrator{}, usagef("no password for %s: set PGPASSWORD, or give --password-file, --admin-secret or --admin-iam", user)
	}
	return administrator{user: user, password: password, refusal: advise("check PGPASSWORD or --password-file, and --admin-user")}, nil
}

// password is the administrator's: that of the file, or else of PGPASSWORD. It is no flag,
// since others can read those.
func (c *grantCommand) password(inEnvironment string) (string, error) {
	if c.PasswordFile == "" {
		return inEnvironment, nil
	}
	content, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", usagef("--password-file: %w", err)
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" {
		return "", usagef("--password-file %s: it is empty", c.PasswordFile)
	}
	return password, nil
}

// iamAdministrator logs in as run would.
func (c *grantCommand) iamAdministrator(ctx context.Context, e endpoint) (administrator, error) {
	identity, err := new(identities).of(ctx, e)
	if err != nil {
		return administrator{}, err
	}
	tokens := e.tokens(identity)
	a := administrator{user: cmp.Or(c.AdminUser, masterUser), hasToken: true}
	a.renew = func(ctx context.Context) (string, error) { return tokens.Token(ctx, a.user) }
	if a.password, err = a.renew(ctx); err != nil {
		return administrator{}, text.WithAdvice(err)
	}
	a.refusal = func(ctx context.Context) string { return tokens.RefusedHint(ctx, a.user) }
	return a, nil
}

// secretAdministrator has the login that a secret has now; it may be rotated at any time.
func (c *grantCommand) secretAdministrator(ctx context.Context, e endpoint) (administrator, error) {
	identity, err := new(identities).of(ctx, e)
	if err != nil {
		return administrator{}, err
	}
	config, err := identity.Config(ctx, e.region)
	if err != nil {
		return administrator{}, text.WithAdvice(err)
	}
	client := &rdsapi.Client{Config: config}
	secret := c.AdminSecret
	if secret == managed {
		if secret, err = managedSecret(ctx, client, e.host); err != nil {
			return administrator{}, err
		}
	}
	login, err := client.Secret(ctx, secret)
	switch {
	case err != nil:
		return administrator{}, fmt.Errorf("--admin-secret: %w", err)
	case c.AdminUser != "" && c.AdminUser != login.User:
		return administrator{}, usagef("--admin-user %s: the secret is of %s; leave out --admin-user", c.AdminUser, login.User)
	}
	return administrator{
		user:     login.User,
		password: login.Password,
		renew: func(ctx context.Context) (string, error) {
			login, err := client.Secret(ctx, secret)
			return login.Password, err
		},
		refusal: advise("the database does not take what the secret has; if it was rotated just now, run it again, else check that the secret is of this database"),
	}, nil
}

func advise(text string) func(context.Context) string {
	return func(context.Context) string { return text }
}

// managedSecret is the ARN of the one that RDS keeps for the database.
func managedSecret(ctx context.Context, client *rdsapi.Client, host string) (string, error) {
	database, err := client.Find(ctx, host)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return "", fmt.Errorf("--admin-secret managed: %w; allow that, or give the secret's ARN instead of the word", err)
	case err != nil:
		return "", fmt.Errorf("--admin-secret managed: %w", err)
	case database.MasterSecret == "":
		return "", fmt.Errorf("--admin-secret managed: RDS keeps no secret for %s; give the ARN of yours, or have RDS keep one (--manage-master-user-password)", cmp.Or(database.Identifier, host))
	}
	return database.MasterSecret, nil
}
