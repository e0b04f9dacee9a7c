package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// lookup finds out what a policy has to name, and asks AWS only what the command line
// does not say.
type lookup struct {
	account, id string // may be empty
	aws         directory
	notes       []string // what to know of what was found
}

// directory is AWS, as it is asked on behalf of who signs for an endpoint.
type directory interface {
	Caller(ctx context.Context, e endpoint) (auth.Caller, error)
	Find(ctx context.Context, e endpoint) (rdsapi.Database, error)
}

// resource is the database that e leads to.
func (l *lookup) resource(ctx context.Context, e endpoint) (auth.Resource, error) {
	id := l.id
	if e.name.Kind == auth.DSQL {
		id = firstLabel(e.host)
	}
	if id == "" {
		return l.find(ctx, e)
	}
	account := l.account
	if account == "" {
		caller, err := l.aws.Caller(ctx, e)
		if account = caller.Account; account == "" {
			return auth.Resource{}, fmt.Errorf("cannot tell the AWS account of %s: %w; give --account", e.host, cmp.Or(err, errors.New("AWS does not say who asks")))
		}
		l.note("%s is the account of who asks; give --account if %s is of another", account, e.host)
	}
	return auth.Resource{Kind: e.name.Kind, Region: e.region, Account: account, ID: id}, nil
}

func (l *lookup) find(ctx context.Context, e endpoint) (auth.Resource, error) {
	found, err := l.aws.Find(ctx, e)
	if err != nil {
		return auth.Resource{}, unknownResource(err, e)
	}
	if l.account != "" && l.account != found.Account {
		return auth.Resource{}, usagef("--account %s: %s is of the account %s", l.account, e.host, found.Account)
	}
	if found.Instance != "" && strings.HasPrefix(found.ID, "cluster-") {
		l.note("%s is an instance of the cluster %s; the policy is for the cluster, with all of its instances", e.host, found.Identifier)
	}
	if e.name.Kind == auth.Global {
		l.note("the policy is for %s, the primary cluster of %s as of now; clusters in other regions need one of their own", found.Identifier, e.host)
	}
	if !found.IAM {
		l.note("IAM authentication is not enabled on %s, so that nobody can log in with a token yet", found.Identifier)
	}
	return found.Resource, nil
}

func (l *lookup) note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(l.notes, note) {
		l.notes = append(l.notes, note)
	}
}

// unknownResource says how to do without asking.
func unknownResource(err error, e endpoint) error {
	var usage usageError
	if errors.As(err, &usage) { // nobody was asked
		return err
	}
	advice := fmt.Sprintf("give --account and --resource-id, which whoever may look sees with: %s", showID(e))
	switch {
	case errors.Is(err, rdsapi.ErrNotFound):
		advice = "look it up as one of the database's account (--profile, --assume-role), or " + advice
	case !errors.Is(err, rdsapi.ErrNotPermitted):
		err = text.WithAdvice(err)
	}
	return fmt.Errorf("cannot look up the resource id of %s: %w; %s", e.host, err, advice)
}

// showID is the line of the AWS CLI that shows the resource id of a database.
func showID(e endpoint) string {
	name := firstLabel(e.host)
	aws := "aws rds --region " + e.region + " describe-db-"
	switch e.name.Kind {
	case auth.Cluster, auth.Reader:
		return aws + "clusters --db-cluster-identifier " + name + " --query 'DBClusters[0].DbClusterResourceId'"
	case auth.Custom:
		return aws + "clusters --query \"DBClusters[?CustomEndpoints] | [?contains(CustomEndpoints, '" + e.host + "')].DbClusterResourceId\""
	case auth.Instance:
		return aws + "instances --db-instance-identifier " + name + " --query 'DBInstances[0].[DbiResourceId,DBClusterIdentifier]' (of one in a cluster it is the cluster's)"
	case auth.RDSProxy:
		return aws + "proxies --query 'DBProxies[].[DBProxyName,DBProxyArn]' (the end of the ARN)"
	default:
		return aws + "clusters --query 'DBClusters[].[DBClusterIdentifier,DbClusterResourceId]'"
	}
}

func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

// awsDirectory asks AWS itself.
type awsDirectory struct{ identities identities }

// Caller is who asks.
func (d *awsDirectory) Caller(ctx context.Context, e endpoint) (auth.Caller, error) {
	identity, err := d.identities.of(ctx, e)
	if err != nil {
		return auth.Caller{}, err
	}
	return identity.Caller(ctx)
}

// Find asks RDS.
func (d *awsDirectory) Find(ctx context.Context, e endpoint) (rdsapi.Database, error) {
	identity, err := d.identities.of(ctx, e)
	if err != nil {
		return rdsapi.Database{}, err
	}
	config, err := identity.Config(ctx, e.region)
	if err != nil {
		return rdsapi.Database{}, err
	}
	client := rdsapi.Client{Config: config}
	return client.Find(ctx, e.host)
}
