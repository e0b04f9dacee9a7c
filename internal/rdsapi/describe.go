package rdsapi

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"
)

// These methods describe one resource by its identifier.

func (r *region) cluster(ctx context.Context, id string) (types.DBCluster, error) {
	out, err := r.rds.DescribeDBClusters(ctx, &rds.DescribeDBClustersInput{DBClusterIdentifier: &id})
	if err != nil {
		return types.DBCluster{}, r.explain("rds:DescribeDBClusters", "cluster "+strconv.Quote(id), err)
	}
	return first(r, "cluster "+strconv.Quote(id), out.DBClusters)
}

func (r *region) clusterEndpoint(ctx context.Context, id string) (types.DBClusterEndpoint, error) {
	out, err := r.rds.DescribeDBClusterEndpoints(ctx, &rds.DescribeDBClusterEndpointsInput{DBClusterEndpointIdentifier: &id})
	if err != nil {
		return types.DBClusterEndpoint{}, r.explain("rds:DescribeDBClusterEndpoints", "custom endpoint "+strconv.Quote(id), err)
	}
	return first(r, "custom endpoint "+strconv.Quote(id), out.DBClusterEndpoints)
}

func (r *region) shardGroup(ctx context.Context, id string) (types.DBShardGroup, error) {
	out, err := r.rds.DescribeDBShardGroups(ctx, &rds.DescribeDBShardGroupsInput{DBShardGroupIdentifier: &id})
	if err != nil {
		return types.DBShardGroup{}, r.explain("rds:DescribeDBShardGroups", "shard group "+strconv.Quote(id), err)
	}
	return first(r, "shard group "+strconv.Quote(id), out.DBShardGroups)
}

func (r *region) instance(ctx context.Context, id string) (types.DBInstance, error) {
	out, err := r.rds.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &id})
	if err != nil {
		return types.DBInstance{}, r.explain("rds:DescribeDBInstances", "instance "+strconv.Quote(id), err)
	}
	return first(r, "instance "+strconv.Quote(id), out.DBInstances)
}

func (r *region) globalCluster(ctx context.Context, id string) (types.GlobalCluster, error) {
	out, err := r.rds.DescribeGlobalClusters(ctx, &rds.DescribeGlobalClustersInput{GlobalClusterIdentifier: &id})
	if err != nil {
		return types.GlobalCluster{}, r.explain("rds:DescribeGlobalClusters", "global cluster "+strconv.Quote(id), err)
	}
	return first(r, "global cluster "+strconv.Quote(id), out.GlobalClusters)
}

func (r *region) proxy(ctx context.Context, name string) (types.DBProxy, error) {
	out, err := r.rds.DescribeDBProxies(ctx, &rds.DescribeDBProxiesInput{DBProxyName: &name})
	if err != nil {
		return types.DBProxy{}, r.explain("rds:DescribeDBProxies", "RDS Proxy "+strconv.Quote(name), err)
	}
	return first(r, "RDS Proxy "+strconv.Quote(name), out.DBProxies)
}

func (r *region) proxyEndpoint(ctx context.Context, name string) (types.DBProxyEndpoint, error) {
	out, err := r.rds.DescribeDBProxyEndpoints(ctx, &rds.DescribeDBProxyEndpointsInput{DBProxyEndpointName: &name})
	if err != nil {
		return types.DBProxyEndpoint{}, r.explain("rds:DescribeDBProxyEndpoints", "RDS Proxy endpoint "+strconv.Quote(name), err)
	}
	return first(r, "RDS Proxy endpoint "+strconv.Quote(name), out.DBProxyEndpoints)
}

// first returns the first of found, or an error that is ErrNotFound.
func first[T any](r *region, what string, found []T) (T, error) {
	if len(found) == 0 {
		var zero T
		return zero, r.notFound(what)
	}
	return found[0], nil
}

// explain returns the error of action, which describes what.
func (r *region) explain(action, what string, err error) error {
	if isNotFound(err) {
		return r.notFound(what)
	}
	return explain(action, err)
}

func (r *region) notFound(what string) error {
	return &apiError{fmt.Sprintf("this account has no %s in %s; "+
		"the database belongs to another account or region, or was deleted", what, r.name), ErrNotFound}
}
