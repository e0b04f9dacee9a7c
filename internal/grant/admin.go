package grant

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Admin is the login of the administrator that executes the grants.
type Admin struct {
	User, Password string
	// HasToken reports whether Password is a token, which must not be sent to a server that
	// requests anything else.
	HasToken bool
	// Refresh returns the current password or token; nil if it does not change.
	Refresh func(context.Context) (string, error)
	// RejectedHint returns the advice for a login that the server rejects. It may send
	// requests to AWS.
	RejectedHint func(context.Context) string
}

// hint returns RejectedHint, even if ctx is done.
func (a Admin) hint(ctx context.Context) string {
	ctx, cancel := graceContext(ctx)
	defer cancel()
	return a.RejectedHint(ctx)
}

// PasswordAdmin returns the login with a fixed password.
func PasswordAdmin(user, password string) Admin {
	return Admin{User: user, Password: password, RejectedHint: constantHint("check PGPASSWORD or --password-file, and --admin-user")}
}

// Tokens signs tokens: an *auth.Tokens.
type Tokens interface {
	Token(ctx context.Context, user string) (string, error)
	RefusedHint(ctx context.Context, user string) string
}

// TokenAdmin returns the login with a token.
func TokenAdmin(ctx context.Context, user string, tokens Tokens) (Admin, error) {
	token, err := tokens.Token(ctx, user)
	if err != nil {
		return Admin{}, text.WithAdvice(err)
	}
	return Admin{
		User:         user,
		Password:     token,
		HasToken:     true,
		Refresh:      func(ctx context.Context) (string, error) { return tokens.Token(ctx, user) },
		RejectedHint: func(ctx context.Context) string { return tokens.RefusedHint(ctx, user) },
	}, nil
}

// managed stands for the secret that RDS keeps for a database.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
const managed = "managed"

// SecretAdmin returns the login in a secret of Secrets Manager, given as its ARN or as managed:
// the secret that RDS keeps for the database at host. The secret may be rotated at any time.
func SecretAdmin(ctx context.Context, client *rdsapi.Client, secret, host string) (admin Admin, err error) {
	if secret == managed {
		if secret, err = managedSecret(ctx, client, host); err != nil {
			return Admin{}, err
		}
	}
	login, err := client.Secret(ctx, secret)
	if err != nil {
		return Admin{}, fmt.Errorf("--admin-secret: %w", err)
	}
	return Admin{
		User:     login.User,
		Password: login.Password,
		Refresh: func(ctx context.Context) (string, error) {
			login, err := client.Secret(ctx, secret)
			return login.Password, err
		},
		RejectedHint: constantHint("check that the secret belongs to this database; if it was rotated a moment ago, run the same command again"),
	}, nil
}

func constantHint(hint string) func(context.Context) string {
	return func(context.Context) string { return hint }
}

// managedSecret returns the ARN of the secret that RDS keeps for a database.
func managedSecret(ctx context.Context, client *rdsapi.Client, host string) (string, error) {
	database, err := client.Find(ctx, host)
	switch {
	case errors.Is(err, rdsapi.ErrNotPermitted):
		return "", fmt.Errorf("--admin-secret managed: %w; allow that, or give --admin-secret the ARN of the secret", err)
	case err != nil:
		return "", fmt.Errorf("--admin-secret managed: %w", err)
	case database.MasterSecret == "":
		return "", fmt.Errorf("--admin-secret managed: RDS manages no secret for %s; give --admin-secret the ARN of a secret with the administrator's user and password, or use PGPASSWORD", cmp.Or(database.Identifier, host))
	}
	return database.MasterSecret, nil
}
