package fakeaws

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const rdsNamespace = "http://rds.amazonaws.com/doc/2014-10-31/"

// rds serves ModifyDBCluster and the Describe actions of the RDS API, for one resource or
// all. All results are on one page.
func (a *AWS) rds(w http.ResponseWriter, r *http.Request, path string) {
	a.query(w, r, path, rdsNamespace, func(r *http.Request, body []byte, form url.Values) (any, *refusal) {
		c, refused := a.callerOf(r, body, "rds")
		switch {
		case refused != nil:
			return nil, refused
		case form.Get("Action") == "ModifyDBCluster":
			return a.modifyCluster(c, form)
		default:
			return a.describe(c, form)
		}
	})
}

// description describes a Describe action: its parameter, the kind of its ARNs, and its
// function.
type description struct {
	parameter, kind string
	find            func(a *AWS, c caller, id string) (any, *refusal)
}

var descriptions = map[string]description{
	"DescribeDBClusters":         {"DBClusterIdentifier", "cluster:", (*AWS).describeClusters},
	"DescribeDBClusterEndpoints": {"DBClusterEndpointIdentifier", "cluster-endpoint:", (*AWS).describeClusterEndpoints},
	"DescribeDBShardGroups":      {"DBShardGroupIdentifier", "shard-group:", (*AWS).describeShardGroups},
	"DescribeDBInstances":        {"DBInstanceIdentifier", "db:", (*AWS).describeInstances},
	"DescribeGlobalClusters":     {"GlobalClusterIdentifier", "global-cluster:", (*AWS).describeGlobalClusters},
	"DescribeDBProxies":          {"DBProxyName", "db-proxy:", (*AWS).describeProxies},
	"DescribeDBProxyEndpoints":   {"DBProxyEndpointName", "db-proxy-endpoint:", (*AWS).describeProxyEndpoints},
}

func (a *AWS) describe(c caller, form url.Values) (any, *refusal) {
	action := form.Get("Action")
	d, known := descriptions[action]
	if !known {
		return nil, invalidAction(form)
	}
	id := form.Get(d.parameter)
	if refused := a.notAuthorized(c.arn, "rds:"+action, d.resource(c, id)); refused != nil {
		return nil, refused
	}
	result, refused := d.find(a, c, id)
	return response{rdsNamespace, action, result}, refused
}

// resource returns the ARN that a policy must allow the action on.
func (d description) resource(c caller, id string) string {
	region := c.region
	switch {
	case d.kind == "global-cluster:":
		region = ""
	case id == "" || strings.HasPrefix(d.kind, "db-proxy"): // its ARN does not have its name
		id = "*"
	}
	return "arn:" + partitionOf(c.region) + ":rds:" + region + ":" + c.account + ":" + d.kind + id
}

func (a *AWS) describeClusters(c caller, id string) (any, *refusal) {
	found := visible(a, &a.databases.clusters, c, func(c Cluster) string { return firstLabel(c.Endpoint) }, id)
	if id != "" && len(found) == 0 {
		return nil, &refusal{404, "DBClusterNotFoundFault", "DBCluster " + id + " not found."}
	}
	var result describeDBClustersResult
	for _, cluster := range found {
		result.DBClusters = append(result.DBClusters, cluster.xml())
	}
	return result, nil
}

// modifyCluster sets IAM authentication, at once or in the next maintenance window.
// https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBCluster.html
func (a *AWS) modifyCluster(c caller, form url.Values) (any, *refusal) {
	const action = "ModifyDBCluster"
	id := form.Get("DBClusterIdentifier")
	name := rdsARN(c.account, c.region, "cluster", id)
	if refused := a.notAuthorized(c.arn, "rds:"+action, name); refused != nil {
		return nil, refused
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	cluster, found := a.databases.clusters[name]
	if !found {
		return nil, &refusal{404, "DBClusterNotFoundFault", "DBCluster " + id + " not found."}
	}
	if enable := form.Get("EnableIAMDatabaseAuthentication"); enable != "" {
		now := form.Get("ApplyImmediately") == "true"
		if now {
			cluster.IAM = enable == "true"
		}
		cluster.IAMPending = !now && enable == "true"
	}
	a.databases.clusters[name] = cluster
	return response{rdsNamespace, action, modifyDBClusterResult{cluster.xml()}}, nil
}

// describeClusterEndpoints describes custom endpoints. RDS lists the others, too.
func (a *AWS) describeClusterEndpoints(c caller, id string) (any, *refusal) {
	var result describeDBClusterEndpointsResult
	for _, cluster := range visible(a, &a.databases.clusters, c, nil, "") {
		for _, endpoint := range cluster.Custom {
			if id == "" || firstLabel(endpoint) == id {
				result.Endpoints = append(result.Endpoints, cluster.custom(endpoint))
			}
		}
	}
	return result, nil
}

func (a *AWS) describeShardGroups(c caller, id string) (any, *refusal) {
	var result describeDBShardGroupsResult
	for _, cluster := range visible(a, &a.databases.clusters, c, nil, "") {
		if cluster.ShardGroup != "" && (id == "" || firstLabel(cluster.ShardGroup) == id) {
			result.Groups = append(result.Groups, cluster.shardGroup())
		}
	}
	if id != "" && result.Groups == nil {
		return nil, &refusal{404, "DBShardGroupNotFound", "DBShardGroup " + id + " not found."}
	}
	return result, nil
}

func (a *AWS) describeInstances(c caller, id string) (any, *refusal) {
	found := visible(a, &a.databases.instances, c, func(i Instance) string { return firstLabel(i.Endpoint) }, id)
	if id != "" && len(found) == 0 {
		return nil, &refusal{404, "DBInstanceNotFound", "DBInstance " + id + " not found."}
	}
	var result describeDBInstancesResult
	for _, instance := range found {
		result.DBInstances = append(result.DBInstances, instance.xml())
	}
	return result, nil
}

func (a *AWS) describeGlobalClusters(c caller, id string) (any, *refusal) {
	found := visible(a, &a.databases.globals, c, func(g GlobalCluster) string { return firstLabel(g.Endpoint) }, id)
	if id != "" && len(found) == 0 {
		return nil, &refusal{404, "GlobalClusterNotFoundFault", "Global cluster " + id + " not found."}
	}
	var result describeGlobalClustersResult
	for _, global := range found {
		result.GlobalClusters = append(result.GlobalClusters, global.xml())
	}
	return result, nil
}

func (a *AWS) describeProxies(c caller, name string) (any, *refusal) {
	found := visible(a, &a.databases.proxies, c, func(p Proxy) string { return firstLabel(p.Endpoint) }, name)
	if name != "" && len(found) == 0 {
		return nil, &refusal{404, "DBProxyNotFoundFault", "The specified proxy name, " + name + ", was not found."}
	}
	var result describeDBProxiesResult
	for _, proxy := range found {
		result.DBProxies = append(result.DBProxies, proxy.xml())
	}
	return result, nil
}

func (a *AWS) describeProxyEndpoints(c caller, name string) (any, *refusal) {
	var result describeDBProxyEndpointsResult
	for _, proxy := range visible(a, &a.databases.proxies, c, nil, "") {
		i := slices.IndexFunc(proxy.Endpoints, func(e string) bool { return firstLabel(e) == name })
		if i >= 0 {
			result.Endpoints = append(result.Endpoints, proxy.endpoint(proxy.Endpoints[i]))
		}
	}
	if result.Endpoints == nil {
		return nil, &refusal{404, "DBProxyEndpointNotFoundFault", "The specified proxy endpoint name, " + name + ", was not found."}
	}
	return result, nil
}
