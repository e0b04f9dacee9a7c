package fakeaws

import "strings"

type describeDBClustersResult struct {
	DBClusters []dbCluster `xml:"DBClusters>DBCluster"`
}

type modifyDBClusterResult struct {
	DBCluster dbCluster
}

type describeDBClusterEndpointsResult struct {
	// The API has this element name.
	Endpoints []dbClusterEndpoint `xml:"DBClusterEndpoints>DBClusterEndpointList"`
}

type describeDBShardGroupsResult struct {
	Groups []dbShardGroup `xml:"DBShardGroups>DBShardGroup"`
}

type describeDBInstancesResult struct {
	DBInstances []dbInstance `xml:"DBInstances>DBInstance"`
}

type describeGlobalClustersResult struct {
	// And this one, of the inner list as well.
	GlobalClusters []globalCluster `xml:"GlobalClusters>GlobalClusterMember"`
}

type describeDBProxiesResult struct {
	DBProxies []dbProxy `xml:"DBProxies>member"`
}

type describeDBProxyEndpointsResult struct {
	Endpoints []dbProxyEndpoint `xml:"DBProxyEndpoints>member"`
}

type dbCluster struct {
	DBClusterIdentifier              string
	DBClusterArn                     string
	DbClusterResourceID              string `xml:"DbClusterResourceId"`
	Status                           string
	Engine                           string
	Endpoint                         string
	ReaderEndpoint                   string
	CustomEndpoints                  []string `xml:"CustomEndpoints>member,omitempty"`
	Port                             int
	MasterUsername                   string
	MasterUserSecret                 *masterUserSecret
	IAMDatabaseAuthenticationEnabled bool
	PendingModifiedValues            *pendingModifiedValues
	PubliclyAccessible               bool
	VpcSecurityGroups                []securityGroup `xml:"VpcSecurityGroups>VpcSecurityGroupMembership"`
}

type masterUserSecret struct {
	SecretArn    string
	SecretStatus string
}

type pendingModifiedValues struct {
	IAMDatabaseAuthenticationEnabled bool
}

type securityGroup struct {
	VpcSecurityGroupID string `xml:"VpcSecurityGroupId"`
	Status             string
}

func (c Cluster) xml() dbCluster {
	id := firstLabel(c.Endpoint)
	return dbCluster{
		DBClusterIdentifier:              id,
		DBClusterArn:                     rdsARN(c.Account, regionOf(c.Endpoint), "cluster", id),
		DbClusterResourceID:              c.ResourceID,
		Status:                           c.Status,
		Engine:                           c.Engine,
		Endpoint:                         c.Endpoint,
		ReaderEndpoint:                   strings.Replace(c.Endpoint, ".cluster-", ".cluster-ro-", 1),
		CustomEndpoints:                  c.Custom,
		Port:                             c.Port,
		MasterUsername:                   c.MasterUser,
		MasterUserSecret:                 secretXML(c.MasterSecret),
		IAMDatabaseAuthenticationEnabled: c.IAM,
		PendingModifiedValues:            pendingXML(c.IAMPending),
		PubliclyAccessible:               c.Public,
		VpcSecurityGroups:                securityGroupsXML(c.SecurityGroups),
	}
}

func secretXML(arn string) *masterUserSecret {
	if arn == "" {
		return nil
	}
	return &masterUserSecret{SecretArn: arn, SecretStatus: "active"}
}

func pendingXML(iam bool) *pendingModifiedValues {
	if !iam {
		return nil
	}
	return &pendingModifiedValues{IAMDatabaseAuthenticationEnabled: true}
}

func securityGroupsXML(ids []string) []securityGroup {
	var groups []securityGroup
	for _, id := range ids {
		groups = append(groups, securityGroup{id, "active"})
	}
	return groups
}

type dbClusterEndpoint struct {
	DBClusterEndpointIdentifier string
	DBClusterIdentifier         string
	Endpoint                    string
	Status                      string
	EndpointType                string
}

func (c Cluster) custom(endpoint string) dbClusterEndpoint {
	return dbClusterEndpoint{firstLabel(endpoint), firstLabel(c.Endpoint), endpoint, "available", "CUSTOM"}
}

type dbShardGroup struct {
	DBShardGroupIdentifier string
	DBClusterIdentifier    string
	Endpoint               string
	Status                 string
	PubliclyAccessible     bool
}

func (c Cluster) shardGroup() dbShardGroup {
	return dbShardGroup{firstLabel(c.ShardGroup), firstLabel(c.Endpoint), c.ShardGroup, c.Status, c.Public}
}

type dbInstance struct {
	DBInstanceIdentifier             string
	DBInstanceArn                    string
	DbiResourceID                    string `xml:"DbiResourceId"`
	DBInstanceStatus                 string
	DBClusterIdentifier              string `xml:",omitempty"`
	Engine                           string
	Endpoint                         dbEndpoint
	MasterUsername                   string
	MasterUserSecret                 *masterUserSecret
	IAMDatabaseAuthenticationEnabled bool
	PendingModifiedValues            *pendingModifiedValues
	PubliclyAccessible               bool
	VpcSecurityGroups                []securityGroup `xml:"VpcSecurityGroups>VpcSecurityGroupMembership"`
}

type dbEndpoint struct {
	Address string
	Port    int
}

func (i Instance) xml() dbInstance {
	id := firstLabel(i.Endpoint)
	return dbInstance{
		DBInstanceIdentifier:             id,
		DBInstanceArn:                    rdsARN(i.Account, regionOf(i.Endpoint), "db", id),
		DbiResourceID:                    i.ResourceID,
		DBInstanceStatus:                 i.Status,
		DBClusterIdentifier:              i.Cluster,
		Engine:                           i.Engine,
		Endpoint:                         dbEndpoint{i.Endpoint, i.Port},
		MasterUsername:                   i.MasterUser,
		MasterUserSecret:                 secretXML(i.MasterSecret),
		IAMDatabaseAuthenticationEnabled: i.IAM,
		PendingModifiedValues:            pendingXML(i.IAMPending),
		PubliclyAccessible:               i.Public,
		VpcSecurityGroups:                securityGroupsXML(i.SecurityGroups),
	}
}

type globalCluster struct {
	GlobalClusterIdentifier string
	GlobalClusterArn        string
	Endpoint                string
	Status                  string
	Members                 []globalClusterMember `xml:"GlobalClusterMembers>GlobalClusterMember"`
}

type globalClusterMember struct {
	DBClusterArn string
	IsWriter     bool
}

func (g GlobalCluster) xml() globalCluster {
	id := firstLabel(g.Endpoint)
	// A reader comes first, so that clients do not take just the first one.
	members := []globalClusterMember{{DBClusterArn: rdsARN(g.Account, "sa-east-1", "cluster", id+"-reader")}}
	if g.Writer != "" {
		members = append(members, globalClusterMember{g.Writer, true})
	}
	return globalCluster{id, rdsARN(g.Account, "", "global-cluster", id), g.Endpoint, "available", members}
}

type dbProxy struct {
	DBProxyName         string
	DBProxyArn          string
	Status              string
	EngineFamily        string
	Endpoint            string
	DefaultAuthScheme   string
	Auth                []proxyAuth `xml:"Auth>member"`
	VpcSecurityGroupIDs []string    `xml:"VpcSecurityGroupIds>member"`
}

type proxyAuth struct {
	AuthScheme string
	IAMAuth    string
}

func (p Proxy) xml() dbProxy {
	proxy := dbProxy{
		DBProxyName:         firstLabel(p.Endpoint),
		DBProxyArn:          rdsARN(p.Account, regionOf(p.Endpoint), "db-proxy", p.ResourceID),
		Status:              "available",
		EngineFamily:        "POSTGRESQL",
		Endpoint:            p.Endpoint,
		DefaultAuthScheme:   p.DefaultAuthScheme,
		VpcSecurityGroupIDs: []string{"sg-0123456789abcdef0"},
	}
	for _, mode := range p.IAMAuth {
		proxy.Auth = append(proxy.Auth, proxyAuth{"SECRETS", mode})
	}
	return proxy
}

type dbProxyEndpoint struct {
	DBProxyEndpointName string
	DBProxyName         string
	Status              string
	Endpoint            string
	VpcSecurityGroupIDs []string `xml:"VpcSecurityGroupIds>member"`
}

func (p Proxy) endpoint(name string) dbProxyEndpoint {
	return dbProxyEndpoint{firstLabel(name), firstLabel(p.Endpoint), "available", name, []string{"sg-0123456789abcdef0"}}
}
