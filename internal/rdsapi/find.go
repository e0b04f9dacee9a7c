package rdsapi

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// port is the port of RDS Proxy and Aurora DSQL, which cannot be changed.
const port = 5432

// Find returns the database with the endpoint host. It requests that database only, so that
// a policy can restrict the permission to it.
func (c *Client) Find(ctx context.Context, host string) (Database, error) {
	host = normalize(host)
	name := auth.ParseName(host)
	if name.Kind == auth.DSQL {
		return c.dsql(ctx, host, name.Region), nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	db, err := c.in(cmp.Or(name.Region, c.Config.Region)).find(ctx, name.Kind, host)
	if err != nil {
		return Database{}, err
	}
	db.Kind = name.Kind
	return db, nil
}

// normalize returns host in the form that the RDS API uses.
func normalize(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// dsql returns the Database of an Aurora DSQL cluster, which always has IAM authentication.
// It sends no request.
func (c *Client) dsql(ctx context.Context, host, region string) Database {
	id, _, _ := strings.Cut(host, ".")
	db := Database{
		Resource:   auth.Resource{Kind: auth.DSQL, Region: region, ID: id},
		Identifier: id, IAM: true, Engine: "aurora-dsql", Port: port,
	}
	if c.Config.Credentials != nil {
		if creds, err := c.Config.Credentials.Retrieve(ctx); err == nil {
			db.Account = creds.AccountID // may be empty
		}
	}
	return db
}

// region sends requests to RDS in one region.
type region struct {
	client *Client
	name   string
	rds    *awsapi.Client
}

func (c *Client) in(name string) *region {
	return &region{c, name, awsapi.New(c.config(name), awsapi.RDS)}
}

func (r *region) find(ctx context.Context, kind auth.Kind, host string) (Database, error) {
	id, rest, _ := strings.Cut(host, ".")
	switch kind {
	case auth.Cluster, auth.Reader:
		return r.byCluster(ctx, id, host)
	case auth.Custom:
		return r.byCustom(ctx, id, host)
	case auth.ShardGroup:
		return r.byShardGroup(ctx, id, host)
	case auth.Instance:
		if strings.HasPrefix(rest, limitless) {
			return r.byLimitless(ctx, id, host)
		}
		return r.byInstance(ctx, id, host)
	case auth.Global:
		return r.byGlobal(ctx, id, host)
	case auth.RDSProxy:
		if strings.HasPrefix(rest, "endpoint.") {
			return r.byProxyEndpoint(ctx, id, host)
		}
		return r.byProxy(ctx, id, host)
	default:
		return Database{}, fmt.Errorf("%s is not a name that AWS assigns to a database, so it cannot be looked up; use the name from the RDS console", host)
	}
}

func (r *region) byCluster(ctx context.Context, id, host string) (Database, error) {
	cluster, err := r.cluster(ctx, id)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("cluster "+id, host, cluster.Endpoint, cluster.ReaderEndpoint); err != nil {
		return Database{}, err
	}
	return fromCluster(cluster), nil
}

func (r *region) byCustom(ctx context.Context, id, host string) (Database, error) {
	endpoint, err := r.clusterEndpoint(ctx, id)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("custom endpoint "+id, host, endpoint.Endpoint); err != nil {
		return Database{}, err
	}
	cluster, err := r.cluster(ctx, endpoint.Cluster)
	return fromCluster(cluster), err
}

func (r *region) byShardGroup(ctx context.Context, id, host string) (Database, error) {
	group, err := r.shardGroup(ctx, id)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("shard group "+id, host, group.Endpoint); err != nil {
		return Database{}, err
	}
	cluster, err := r.cluster(ctx, group.Cluster)
	db := fromCluster(cluster)
	db.Status = group.Status
	return db, err
}

// limitless begins the second label in the endpoint of some shard groups, which is otherwise
// the name of the cluster.
// https://docs.aws.amazon.com/cli/latest/reference/rds/describe-db-shard-groups.html
const limitless = "limitless-"

func (r *region) byLimitless(ctx context.Context, id, host string) (Database, error) {
	return r.byCluster(ctx, id, strings.Replace(host, "."+limitless, ".cluster-", 1))
}

func (r *region) byInstance(ctx context.Context, id, host string) (Database, error) {
	instance, err := r.instance(ctx, id)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("instance "+id, host, instance.Endpoint); err != nil {
		return Database{}, err
	}
	db := fromInstance(instance)
	if instance.Cluster == "" {
		return db, nil
	}
	cluster, err := r.cluster(ctx, instance.Cluster)
	return fromMember(fromCluster(cluster), db), err
}

// byGlobal returns the global cluster's writer, which it requests in the writer's region.
func (r *region) byGlobal(ctx context.Context, id, host string) (Database, error) {
	global, err := r.globalCluster(ctx, id)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("global cluster "+id, host, global.Endpoint); err != nil {
		return Database{}, err
	}
	for _, member := range global.Members {
		writer, err := arn.Parse(member.ClusterARN)
		if err != nil || !member.IsWriter {
			continue
		}
		cluster, err := r.client.in(writer.Region).cluster(ctx, lastPart(writer.Resource))
		return fromCluster(cluster), err
	}
	return Database{}, &awsapi.Error{Text: fmt.Sprintf("global cluster %s has no writer at the moment", id), Kind: ErrNotFound}
}

func (r *region) byProxy(ctx context.Context, name, host string) (Database, error) {
	proxy, err := r.proxy(ctx, name)
	if err != nil {
		return Database{}, err
	}
	return fromProxy(proxy), r.checkEndpoint("RDS Proxy "+name, host, proxy.Endpoint)
}

func (r *region) byProxyEndpoint(ctx context.Context, name, host string) (Database, error) {
	endpoint, err := r.proxyEndpoint(ctx, name)
	if err != nil {
		return Database{}, err
	}
	if err := r.checkEndpoint("RDS Proxy endpoint "+name, host, endpoint.Endpoint); err != nil {
		return Database{}, err
	}
	proxy, err := r.proxy(ctx, endpoint.Proxy)
	db := fromProxy(proxy)
	db.Status, db.SecurityGroups = endpoint.Status, endpoint.SecurityGroups
	return db, err
}

// checkEndpoint returns an error unless host is one of the endpoints of what was found by its
// first label. The second label depends on the account and the region.
func (r *region) checkEndpoint(what, host string, endpoints ...string) error {
	for _, endpoint := range endpoints {
		if normalize(endpoint) == host {
			return nil
		}
	}
	own := endpoints[0]
	if own == "" {
		return &awsapi.Error{Text: fmt.Sprintf("the %s in this account in %s has no endpoint yet", what, r.name), Kind: ErrNotFound}
	}
	return &awsapi.Error{Text: fmt.Sprintf("the %s in this account in %s has another endpoint, %s; "+
		"the database belongs to another account, or was deleted", what, r.name, own), Kind: ErrNotFound}
}
