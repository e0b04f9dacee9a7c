package rdsapi

import (
	"context"
	"encoding/xml"
	"fmt"
	"strconv"

	"github.com/iamproxy/iamproxy/internal/awsapi"
)

// The responses of the RDS API, with the elements that iamproxy reads.
// https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Operations.html

type dbCluster struct {
	Identifier     string `xml:"DBClusterIdentifier"`
	ARN            string `xml:"DBClusterArn"`
	ResourceID     string `xml:"DbClusterResourceId"`
	Endpoint       string
	ReaderEndpoint string
	Status         string
	Engine         string
	Port           int
	MasterUsername string
	MasterSecret   string   `xml:"MasterUserSecret>SecretArn"`
	IAM            bool     `xml:"IAMDatabaseAuthenticationEnabled"`
	IAMPending     bool     `xml:"PendingModifiedValues>IAMDatabaseAuthenticationEnabled"`
	SecurityGroups []string `xml:"VpcSecurityGroups>VpcSecurityGroupMembership>VpcSecurityGroupId"`
}

type dbClusterEndpoint struct {
	Cluster  string `xml:"DBClusterIdentifier"`
	Endpoint string
}

type dbShardGroup struct {
	Cluster  string `xml:"DBClusterIdentifier"`
	Endpoint string
	Status   string
}

type dbInstance struct {
	Identifier     string `xml:"DBInstanceIdentifier"`
	ARN            string `xml:"DBInstanceArn"`
	ResourceID     string `xml:"DbiResourceId"`
	Cluster        string `xml:"DBClusterIdentifier"` // empty outside a cluster
	Endpoint       string `xml:"Endpoint>Address"`    // empty while the instance is being created
	Port           int    `xml:"Endpoint>Port"`
	Status         string `xml:"DBInstanceStatus"`
	Engine         string
	MasterUsername string
	MasterSecret   string   `xml:"MasterUserSecret>SecretArn"`
	IAM            bool     `xml:"IAMDatabaseAuthenticationEnabled"`
	IAMPending     bool     `xml:"PendingModifiedValues>IAMDatabaseAuthenticationEnabled"`
	SecurityGroups []string `xml:"VpcSecurityGroups>VpcSecurityGroupMembership>VpcSecurityGroupId"`
}

type globalCluster struct {
	Endpoint string
	Members  []struct {
		ClusterARN string `xml:"DBClusterArn"`
		IsWriter   bool
	} `xml:"GlobalClusterMembers>GlobalClusterMember"`
}

type dbProxy struct {
	Name              string `xml:"DBProxyName"`
	ARN               string `xml:"DBProxyArn"`
	Endpoint          string
	Status            string
	EngineFamily      string
	DefaultAuthScheme string
	IAMAuth           []string `xml:"Auth>member>IAMAuth"` // of each secret
	SecurityGroups    []string `xml:"VpcSecurityGroupIds>member"`
}

type dbProxyEndpoint struct {
	Proxy          string `xml:"DBProxyName"`
	Endpoint       string
	Status         string
	SecurityGroups []string `xml:"VpcSecurityGroupIds>member"`
}

// These methods describe one resource by its identifier.

func (r *region) cluster(ctx context.Context, id string) (dbCluster, error) {
	var response struct {
		XMLName xml.Name    `xml:"DescribeDBClustersResponse"`
		Found   []dbCluster `xml:"DescribeDBClustersResult>DBClusters>DBCluster"`
	}
	err := r.rds.Call(ctx, "DescribeDBClusters", map[string]string{"DBClusterIdentifier": id}, &response)
	return first(r, "rds:DescribeDBClusters", "cluster "+strconv.Quote(id), response.Found, err)
}

func (r *region) clusterEndpoint(ctx context.Context, id string) (dbClusterEndpoint, error) {
	var response struct {
		XMLName xml.Name            `xml:"DescribeDBClusterEndpointsResponse"`
		Found   []dbClusterEndpoint `xml:"DescribeDBClusterEndpointsResult>DBClusterEndpoints>DBClusterEndpointList"`
	}
	err := r.rds.Call(ctx, "DescribeDBClusterEndpoints", map[string]string{"DBClusterEndpointIdentifier": id}, &response)
	return first(r, "rds:DescribeDBClusterEndpoints", "custom endpoint "+strconv.Quote(id), response.Found, err)
}

func (r *region) shardGroup(ctx context.Context, id string) (dbShardGroup, error) {
	var response struct {
		XMLName xml.Name       `xml:"DescribeDBShardGroupsResponse"`
		Found   []dbShardGroup `xml:"DescribeDBShardGroupsResult>DBShardGroups>DBShardGroup"`
	}
	err := r.rds.Call(ctx, "DescribeDBShardGroups", map[string]string{"DBShardGroupIdentifier": id}, &response)
	return first(r, "rds:DescribeDBShardGroups", "shard group "+strconv.Quote(id), response.Found, err)
}

func (r *region) instance(ctx context.Context, id string) (dbInstance, error) {
	var response struct {
		XMLName xml.Name     `xml:"DescribeDBInstancesResponse"`
		Found   []dbInstance `xml:"DescribeDBInstancesResult>DBInstances>DBInstance"`
	}
	err := r.rds.Call(ctx, "DescribeDBInstances", map[string]string{"DBInstanceIdentifier": id}, &response)
	return first(r, "rds:DescribeDBInstances", "instance "+strconv.Quote(id), response.Found, err)
}

func (r *region) globalCluster(ctx context.Context, id string) (globalCluster, error) {
	var response struct {
		XMLName xml.Name        `xml:"DescribeGlobalClustersResponse"`
		Found   []globalCluster `xml:"DescribeGlobalClustersResult>GlobalClusters>GlobalClusterMember"`
	}
	err := r.rds.Call(ctx, "DescribeGlobalClusters", map[string]string{"GlobalClusterIdentifier": id}, &response)
	return first(r, "rds:DescribeGlobalClusters", "global cluster "+strconv.Quote(id), response.Found, err)
}

func (r *region) proxy(ctx context.Context, name string) (dbProxy, error) {
	var response struct {
		XMLName xml.Name  `xml:"DescribeDBProxiesResponse"`
		Found   []dbProxy `xml:"DescribeDBProxiesResult>DBProxies>member"`
	}
	err := r.rds.Call(ctx, "DescribeDBProxies", map[string]string{"DBProxyName": name}, &response)
	return first(r, "rds:DescribeDBProxies", "RDS Proxy "+strconv.Quote(name), response.Found, err)
}

func (r *region) proxyEndpoint(ctx context.Context, name string) (dbProxyEndpoint, error) {
	var response struct {
		XMLName xml.Name          `xml:"DescribeDBProxyEndpointsResponse"`
		Found   []dbProxyEndpoint `xml:"DescribeDBProxyEndpointsResult>DBProxyEndpoints>member"`
	}
	err := r.rds.Call(ctx, "DescribeDBProxyEndpoints", map[string]string{"DBProxyEndpointName": name}, &response)
	return first(r, "rds:DescribeDBProxyEndpoints", "RDS Proxy endpoint "+strconv.Quote(name), response.Found, err)
}

// first returns the first of found, or the error of action, which describes what.
func first[T any](r *region, action, what string, found []T, err error) (T, error) {
	var none T
	switch {
	case isNotFound(err) || err == nil && len(found) == 0:
		return none, r.notFound(what)
	case err != nil:
		return none, awsapi.Explain(action, err)
	}
	return found[0], nil
}

func (r *region) notFound(what string) error {
	return &awsapi.Error{Text: fmt.Sprintf("this account has no %s in %s; "+
		"the database belongs to another account or region, or was deleted", what, r.name), Kind: ErrNotFound}
}
