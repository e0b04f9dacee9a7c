// Package rdsapi asks AWS what it knows of a database beforehand: whether IAM
// authentication is enabled, what a policy must name, what the policies of the caller
// allow, and the administrator's password where RDS keeps it. It changes nothing, and
// whoever runs it need not be allowed any of it: see ErrNotPermitted. What is asked, and
// has to be allowed for an answer:
//
//	Find        of a cluster's writer and readers  rds:DescribeDBClusters
//	            of a custom endpoint               rds:DescribeDBClusterEndpoints, then as of a cluster
//	            of an instance                     rds:DescribeDBInstances, then as of a cluster if it is in one
//	            of a shard group                   rds:DescribeDBShardGroups, then as of a cluster
//	            of a global writer                 rds:DescribeGlobalClusters, then as of a cluster, in the writer's region
//	            of an RDS Proxy                    rds:DescribeDBProxies, before that
//	                                               rds:DescribeDBProxyEndpoints of an endpoint added to it
//	            of Aurora DSQL                     nothing
//	MayConnect  iam:SimulatePrincipalPolicy, of roles with a path iam:GetRole, too
//	Secret      secretsmanager:GetSecretValue, and kms:Decrypt if the key is not Secrets Manager's own
package rdsapi

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/iamproxy/iamproxy/auth"
)

// Client asks as one identity. The zero values of its fields are of no use.
// All methods may be called concurrently.
type Client struct {
	// Config has the credentials and the HTTP client: see auth.Identity.Config. Its
	// region is asked where the name of a database, or a secret's ARN, has none; and
	// IAM in its partition.
	Config aws.Config
}

// Database is what RDS knows of a database.
type Database struct {
	auth.Resource

	// Identifier is what the AWS CLI takes for it: of a cluster for all names that lead
	// to it or to an instance of it, else of the instance or the RDS Proxy.
	Identifier string
	// InCluster reports whether Identifier is a cluster's.
	InCluster bool
	// Writer is the endpoint of the cluster that leads to its writer; empty if it has none.
	Writer string
	// Instance is the identifier of the instance that the name is of, if it is one.
	Instance string
	// IAM reports whether users may log in with tokens.
	IAM bool
	// IAMPending reports whether it was enabled, to come into force in the next
	// maintenance window.
	IAMPending bool
	// Status is RDS's word for how it is, such as "available".
	Status string
	// Engine is RDS's word, such as "aurora-postgresql".
	Engine string
	Port   int
	// MasterUser may be empty, and MasterSecret is the ARN of the secret in which RDS
	// keeps its password, if it does.
	MasterUser, MasterSecret string
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

// limit bounds every method: from a subnet with no way out nothing answers, not even to
// refuse.
const limit = 5 * time.Second

// config is for questions that are put a second time at most.
func (c *Client) config(region string) aws.Config {
	cfg := c.Config.Copy()
	cfg.Region = region
	cfg.RetryMaxAttempts = 0 // or it counts instead of what follows
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 2, 500*time.Millisecond
		})
	}
	return cfg
}
