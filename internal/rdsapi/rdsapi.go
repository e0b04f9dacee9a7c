// Package rdsapi reads from AWS what it knows about a database: its status and
// settings, its resource ID for policies, whether the caller's policies allow a login,
// and the administrator's password where RDS manages it. It changes nothing. A caller
// without a permission gets ErrNotPermitted. The methods need these permissions:
//
//	Find        cluster, reader endpoint  rds:DescribeDBClusters
//	            custom endpoint           rds:DescribeDBClusterEndpoints, rds:DescribeDBClusters
//	            instance                  rds:DescribeDBInstances, in a cluster also rds:DescribeDBClusters
//	            shard group               rds:DescribeDBShardGroups, rds:DescribeDBClusters
//	            global writer endpoint    rds:DescribeGlobalClusters, rds:DescribeDBClusters in the writer's region
//	            RDS Proxy                 rds:DescribeDBProxies, for a further endpoint also
//	                                      rds:DescribeDBProxyEndpoints
//	            Aurora DSQL               none
//	MayConnect                            iam:SimulatePrincipalPolicy, for a role with a path also iam:GetRole
//	Secret                                secretsmanager:GetSecretValue, with a customer managed key also kms:Decrypt
package rdsapi

import (
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// Client sends requests with the credentials of Config. Its methods may be called
// concurrently.
type Client struct {
	// Config has the credentials and the HTTP client, see auth.Identity.Config. Its
	// region is used for IAM, and where the name of a database or the ID of a secret has
	// none. It is required.
	Config aws.Config
}

// Database describes a database.
type Database struct {
	auth.Resource

	// Identifier identifies the database to the AWS CLI: the cluster, for all its
	// endpoints and instances; else the instance, the RDS Proxy or the DSQL cluster.
	Identifier string
	// InCluster reports whether Identifier is that of an RDS or Aurora cluster.
	InCluster bool
	// Writer is the cluster's writer endpoint, or empty.
	Writer string
	// Instance is the identifier of the instance if the host is that of an instance.
	Instance string
	// IAM reports whether IAM authentication is enabled.
	IAM bool
	// IAMPending reports whether IAM authentication will be enabled in the next
	// maintenance window.
	IAMPending bool
	// Status is the status in the RDS API, such as "available".
	Status string
	// Engine is the engine in the RDS API, such as "aurora-postgresql".
	Engine string
	Port   int
	// MasterUser is the administrator. It may be empty.
	MasterUser string
	// MasterSecret is the ARN of the secret with the password of MasterUser, if RDS
	// manages it.
	MasterSecret string
	// SecurityGroups are the IDs of the VPC security groups.
	SecurityGroups []string
}

// Kinds of errors, for errors.Is. Each has its own text, in one line. See package awsapi.
var (
	ErrNotPermitted = awsapi.ErrNotPermitted
	ErrCredentials  = awsapi.ErrCredentials
	ErrUnreachable  = awsapi.ErrUnreachable
	// ErrNotFound means that the database or secret is not in the caller's account and
	// the region, or that the database of that name has another endpoint.
	ErrNotFound = errors.New("no such database")
)

// timeout limits each method. Without a route to the service, connection attempts get no
// answer at all.
const timeout = 5 * time.Second

// config returns Config for a region, with one retry.
func (c *Client) config(region string) aws.Config {
	cfg := c.Config.Copy()
	cfg.Region = region
	cfg.RetryMaxAttempts = 0 // it would override MaxAttempts
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = 2, 500*time.Millisecond
		})
	}
	return cfg
}
