// Package controlplane asks AWS what it knows of a database beforehand: whether IAM
// authentication is enabled, what a policy must name, what the policies of the caller
// allow, and the administrator's password where RDS keeps it. It changes nothing, and
// whoever runs it need not be allowed any of it: see ErrNotPermitted.
package controlplane

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/iamproxy/iamproxy/auth"
)

// Client asks as one identity, in one region. The zero values of its fields are of no use.
// All methods may be called concurrently.
type Client struct {
	// Config has the credentials and the HTTP client: see auth.Identity.Config. Its
	// region is where is asked about what has none in its name.
	Config aws.Config
}

// Database is what RDS knows of a database.
type Database struct {
	auth.Resource

	// Identifier is what the AWS CLI takes for it: of a cluster for all names that lead
	// to it or to an instance of it, else of the instance or the RDS Proxy.
	Identifier string
	// Instance is the identifier of the instance that the name is of, if it is one.
	Instance string
	// IAM reports whether users may log in with tokens.
	IAM bool
	// Status is RDS's word for how it is, such as "available".
	Status string
	// Engine is RDS's word, such as "aurora-postgresql".
	Engine string
	// Endpoint is where it says that it can be reached, by the name that was asked for.
	Endpoint string
	Port     int
	// MasterUser may be empty, and MasterSecret is the ARN of the secret in which RDS
	// keeps its password, if it does.
	MasterUser, MasterSecret string
	// Public reports whether it has an address on the Internet.
	Public bool
	// SecurityGroups are those that guard it.
	SecurityGroups []string
}

// What is in the errors, which say it in words of their own, in one line. ErrNotPermitted and
// ErrUnreachable say nothing about the database.
var (
	// ErrNotPermitted: the caller may not ask, or nobody may.
	ErrNotPermitted = errors.New("not permitted to look")
	// ErrNotFound: there is no such database, or secret, in the caller's account and
	// the region, or the one of that name has another endpoint. It is of another account
	// or region, or was deleted.
	ErrNotFound = errors.New("no such database")
	// ErrCredentials: AWS does not take the credentials.
	ErrCredentials = errors.New("AWS does not take the credentials")
	// ErrUnreachable: the service does not answer, or not now, as from a subnet that has
	// neither a way out nor an endpoint for it.
	ErrUnreachable = errors.New("AWS does not answer from here")
)

// Find looks up the database that host, a name that AWS gave, belongs to.
func (c *Client) Find(ctx context.Context, host string) (Database, error) {
	return Database{}, errors.ErrUnsupported
}

// Decision is what the policies say to a request.
type Decision struct {
	Allowed bool
	// Denied reports whether a statement denies it, in contrast to none that allows it.
	Denied bool
	// By says which policy decided, or is missing, in a few words; may be empty.
	By string
}

// MayConnect asks IAM whether caller, the ARN of a user or of a role's session, may log in
// to resource as user. Policies with conditions are judged without their context.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
func (c *Client) MayConnect(ctx context.Context, caller string, resource auth.Resource, user string) (Decision, error) {
	return Decision{}, errors.ErrUnsupported
}

// Login is what a secret has that RDS manages.
type Login struct{ User, Password string }

// Secret reads the administrator's login from Secrets Manager. It is never in an error.
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
func (c *Client) Secret(ctx context.Context, arn string) (Login, error) {
	return Login{}, errors.ErrUnsupported
}
