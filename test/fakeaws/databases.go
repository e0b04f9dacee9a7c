package fakeaws

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Cluster is an RDS cluster. Zero fields are as most clusters have them.
type Cluster struct {
	// Endpoint is the writer's name. The identifier, the reader's name and the region are
	// derived from it.
	Endpoint string
	Account  string // zero: the account of Container
	// ResourceID is cluster-... Zero: ResourceIDOf the name.
	ResourceID string
	IAM        bool // IAM authentication is enabled
	IAMPending bool // it will be, in the next maintenance window
	Status     string
	Engine     string
	Port       int
	Public     bool
	// SecurityGroups are the ids of its security groups. Zero: one.
	SecurityGroups []string
	MasterUser     string // zero: postgres
	MasterSecret   string // the ARN of the secret that RDS manages; zero: none
	// Custom are the names of its custom endpoints, and ShardGroup is the endpoint of its
	// shard group.
	Custom     []string
	ShardGroup string
}

// Instance is an RDS instance, with the same rules.
type Instance struct {
	Endpoint string
	// Cluster is the identifier of its cluster. Zero: none.
	Cluster        string
	Account        string
	ResourceID     string // db-...
	IAM            bool
	IAMPending     bool
	Status         string
	Engine         string
	Port           int
	Public         bool
	SecurityGroups []string
	MasterUser     string
	MasterSecret   string
}

// Proxy is an RDS Proxy.
type Proxy struct {
	Endpoint   string
	Account    string
	ResourceID string   // prx-...
	Endpoints  []string // the names of additional endpoints
	// IAMAuth is the setting of each of its secrets: REQUIRED or DISABLED. Nil: it has no
	// secrets.
	IAMAuth []string
	// DefaultAuthScheme is IAM_AUTH or NONE. Zero: NONE.
	DefaultAuthScheme string
}

// GlobalCluster is a global cluster whose primary was added as a Cluster.
type GlobalCluster struct {
	Endpoint string // of the writer: has no region
	Account  string
	Writer   string // the ARN of the primary cluster; zero: none
}

// databases holds all resources of RDS, by ARN.
type databases struct {
	clusters  map[string]Cluster
	instances map[string]Instance
	proxies   map[string]Proxy
	globals   map[string]GlobalCluster
}

// AddCluster adds a cluster, or replaces the one with this name, and returns its ARN.
func (a *AWS) AddCluster(c Cluster) string {
	c.Account = cmp.Or(c.Account, account)
	c.ResourceID = cmp.Or(c.ResourceID, ResourceIDOf(c.Endpoint))
	c.Status, c.Engine, c.MasterUser = cmp.Or(c.Status, "available"), cmp.Or(c.Engine, "aurora-postgresql"), cmp.Or(c.MasterUser, "postgres")
	c.Port = cmp.Or(c.Port, 5432)
	if c.SecurityGroups == nil {
		c.SecurityGroups = []string{"sg-0123456789abcdef0"}
	}
	name := rdsARN(c.Account, regionOf(c.Endpoint), "cluster", firstLabel(c.Endpoint))
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.databases.clusters, name, c)
	return name
}

// IAMEnabled reports whether IAM authentication of the cluster with this ARN is enabled.
func (a *AWS) IAMEnabled(cluster string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.databases.clusters[cluster].IAM
}

// AddInstance adds or replaces an instance.
func (a *AWS) AddInstance(i Instance) string {
	i.Account = cmp.Or(i.Account, account)
	i.ResourceID = cmp.Or(i.ResourceID, ResourceIDOf(i.Endpoint))
	i.Status, i.Engine, i.MasterUser = cmp.Or(i.Status, "available"), cmp.Or(i.Engine, "postgres"), cmp.Or(i.MasterUser, "postgres")
	i.Port = cmp.Or(i.Port, 5432)
	if i.SecurityGroups == nil {
		i.SecurityGroups = []string{"sg-0123456789abcdef0"}
	}
	name := rdsARN(i.Account, regionOf(i.Endpoint), "db", firstLabel(i.Endpoint))
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.databases.instances, name, i)
	return name
}

// AddProxy adds or replaces an RDS Proxy.
func (a *AWS) AddProxy(p Proxy) string {
	p.Account = cmp.Or(p.Account, account)
	p.ResourceID = cmp.Or(p.ResourceID, ResourceIDOf(p.Endpoint))
	p.DefaultAuthScheme = cmp.Or(p.DefaultAuthScheme, "NONE")
	name := rdsARN(p.Account, regionOf(p.Endpoint), "db-proxy", p.ResourceID)
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.databases.proxies, name, p)
	return name
}

// AddGlobalCluster adds or replaces a global cluster.
func (a *AWS) AddGlobalCluster(g GlobalCluster) string {
	g.Account = cmp.Or(g.Account, account)
	name := rdsARN(g.Account, "", "global-cluster", firstLabel(g.Endpoint))
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.databases.globals, name, g)
	return name
}

// ResourceIDOf returns the default resource id of a database: cluster-, db- or prx- and 26
// characters, the same for all endpoints of a cluster.
func ResourceIDOf(endpoint string) string {
	prefix, id := "db-", firstLabel(endpoint)
	_, rest, _ := strings.Cut(endpoint, ".")
	switch {
	case strings.HasPrefix(rest, "cluster-"):
		prefix = "cluster-"
	case strings.HasPrefix(rest, "proxy-"):
		prefix = "prx-"
	}
	hash := sha256.Sum256([]byte(prefix + id))
	id = base32.StdEncoding.EncodeToString(hash[:])[:26]
	if prefix == "prx-" {
		id = strings.ToLower(id)
	}
	return prefix + id
}

// put adds to a map that may be nil.
func put[T any](m *map[string]T, key string, value T) {
	if *m == nil {
		*m = make(map[string]T)
	}
	(*m)[key] = value
}

// visible returns the resources that c sees and, unless id is empty, that id names, by ARN.
// Those without a region are in all regions.
func visible[T any](a *AWS, all *map[string]T, c caller, id func(T) string, wanted string) []T {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []T
	for _, name := range slices.Sorted(maps.Keys(*all)) {
		parts := strings.Split(name, ":")
		here := parts[3] == c.region || parts[3] == ""
		if here && parts[4] == c.account && (wanted == "" || strings.EqualFold(id((*all)[name]), wanted)) {
			found = append(found, (*all)[name])
		}
	}
	return found
}

func rdsARN(account, region, kind, id string) string {
	return "arn:" + partitionOf(region) + ":rds:" + region + ":" + account + ":" + kind + ":" + id
}

func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

var regionLabel = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]$`)

// regionOf returns the region in a database's name, or "".
func regionOf(host string) string {
	labels := strings.Split(host, ".")
	if i := slices.IndexFunc(labels[1:], regionLabel.MatchString); i >= 0 {
		return labels[1+i]
	}
	return ""
}
