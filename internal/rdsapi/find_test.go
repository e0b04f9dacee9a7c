package rdsapi_test

import (
	"reflect"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

const (
	cluster  = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	reader   = "mydb.cluster-ro-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	custom   = "reports.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	shards   = "shards.shardgrp-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	member   = "mydb-one.cabcdefghijk.eu-west-1.rds.amazonaws.com"
	instance = "single.cabcdefghijk.eu-west-1.rds.amazonaws.com"
	proxy    = "front.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	added    = "readers.endpoint.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"
	global   = "world.global-cabcdefghijk.global.rds.amazonaws.com"
	far      = "far.cluster-czyxwvutsrqp.us-west-2.rds.amazonaws.com"
	china    = "mydb.cluster-cabcdefghijk.rds.cn-north-1.amazonaws.com.cn"
	dsql     = "abcdefghijklmnopqrstuvwxyz.dsql.eu-west-1.on.aws"
)

const secretARN = "arn:aws:secretsmanager:eu-west-1:" + account + ":secret:rds!cluster-1-abcdef"

// populate adds a database of each kind.
func populate(a *fakeaws.AWS) {
	a.AddCluster(fakeaws.Cluster{Endpoint: cluster, IAM: true, ResourceID: "cluster-MYDB", Port: 5433, MasterSecret: secretARN,
		Custom: []string{custom}, ShardGroup: shards, SecurityGroups: []string{"sg-1", "sg-2"}})
	a.AddInstance(fakeaws.Instance{Endpoint: member, Cluster: "mydb", Public: true, Status: "rebooting", Port: 5434, Engine: "aurora-postgresql"})
	a.AddInstance(fakeaws.Instance{Endpoint: instance, ResourceID: "db-SINGLE", IAMPending: true, MasterUser: "root"})
	a.AddProxy(fakeaws.Proxy{Endpoint: proxy, ResourceID: "prx-front", IAMAuth: []string{"DISABLED", "REQUIRED"}, Endpoints: []string{added}})
	a.AddGlobalCluster(fakeaws.GlobalCluster{Endpoint: global, Writer: a.AddCluster(fakeaws.Cluster{Endpoint: far, ResourceID: "cluster-FAR"})})
	a.AddCluster(fakeaws.Cluster{Endpoint: china, ResourceID: "cluster-CHINA"})
}

func TestFind(t *testing.T) {
	a := start(t)
	populate(a)
	client := as(t, jane)
	of := func(kind auth.Kind, region, id string) auth.Resource {
		return auth.Resource{Kind: kind, Region: region, Account: account, ID: id}
	}
	mydb := rdsapi.Database{
		Resource: of("", region, "cluster-MYDB"), Identifier: "mydb", InCluster: true, Writer: cluster, IAM: true, Status: "available", Engine: "aurora-postgresql",
		Port: 5433, MasterUser: "postgres", MasterSecret: secretARN, SecurityGroups: []string{"sg-1", "sg-2"},
	}
	front := rdsapi.Database{
		Resource: of("", region, "prx-front"), Identifier: "front", IAM: true, Status: "available", Engine: "POSTGRESQL",
		Port: 5432, SecurityGroups: []string{"sg-0123456789abcdef0"},
	}
	other := func(kind auth.Kind, region, id, identifier string) rdsapi.Database {
		return rdsapi.Database{Resource: of(kind, region, id), Identifier: identifier, Status: "available",
			Engine: "aurora-postgresql", Port: 5432, MasterUser: "postgres", SecurityGroups: []string{"sg-0123456789abcdef0"}}
	}
	led := func(by string) func(*rdsapi.Database) {
		return func(db *rdsapi.Database) { db.InCluster, db.Writer = true, by }
	}
	with := func(db rdsapi.Database, kind auth.Kind, change func(*rdsapi.Database)) rdsapi.Database {
		db.Kind = kind
		if change != nil {
			change(&db)
		}
		return db
	}
	for host, test := range map[string]struct {
		want    rdsapi.Database
		actions []string // the permissions needed
	}{
		cluster: {with(mydb, auth.Cluster, nil), []string{"rds:DescribeDBClusters"}},
		reader:  {with(mydb, auth.Reader, nil), []string{"rds:DescribeDBClusters"}},
		custom:  {with(mydb, auth.Custom, nil), []string{"rds:DescribeDBClusterEndpoints", "rds:DescribeDBClusters"}},
		shards:  {with(mydb, auth.ShardGroup, nil), []string{"rds:DescribeDBShardGroups", "rds:DescribeDBClusters"}},
		member: {with(mydb, auth.Instance, func(db *rdsapi.Database) {
			db.Instance, db.Status, db.Port, db.SecurityGroups = "mydb-one", "rebooting", 5434, []string{"sg-0123456789abcdef0"}
		}), []string{"rds:DescribeDBInstances", "rds:DescribeDBClusters"}},
		instance: {with(other(auth.Instance, region, "db-SINGLE", "single"), auth.Instance, func(db *rdsapi.Database) {
			db.Instance, db.Engine, db.IAMPending, db.MasterUser = "single", "postgres", true, "root"
		}), []string{"rds:DescribeDBInstances"}},
		proxy: {with(front, auth.RDSProxy, nil), []string{"rds:DescribeDBProxies"}},
		added: {with(front, auth.RDSProxy, nil), []string{"rds:DescribeDBProxyEndpoints", "rds:DescribeDBProxies"}},
		// The writer is in another region.
		global: {with(other(auth.Global, "us-west-2", "cluster-FAR", "far"), auth.Global, led(far)), []string{"rds:DescribeGlobalClusters", "rds:DescribeDBClusters"}},
		far:    {with(other(auth.Cluster, "us-west-2", "cluster-FAR", "far"), auth.Cluster, led(far)), []string{"rds:DescribeDBClusters"}},
		china:  {with(other(auth.Cluster, "cn-north-1", "cluster-CHINA", "mydb"), auth.Cluster, led(china)), []string{"rds:DescribeDBClusters"}},
		// The account is the caller's, which these credentials do not have.
		dsql: {rdsapi.Database{Resource: auth.Resource{Kind: auth.DSQL, Region: region, ID: "abcdefghijklmnopqrstuvwxyz"},
			Identifier: "abcdefghijklmnopqrstuvwxyz", IAM: true, Engine: "aurora-dsql", Port: 5432}, nil},
	} {
		t.Run(host, func(t *testing.T) {
			a.Detach(janeARN)
			// An error names each missing permission, and no other permission is needed.
			for _, action := range test.actions {
				_, err := client.Find(t.Context(), host)
				expectError(t, err, rdsapi.ErrNotPermitted, action+" is not allowed: no identity-based policy allows")
				a.Allow(janeARN, action)
			}
			got, err := client.Find(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

// A host may have upper case and a trailing dot.
func TestFindNormalizes(t *testing.T) {
	a := start(t)
	populate(a)
	a.Allow(fakeaws.Everyone, "rds:*")
	db, err := as(t, jane).Find(t.Context(), "MyDB.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com.")
	if err != nil || db.Identifier != "mydb" {
		t.Errorf("%+v, %v", db, err)
	}
}

// A policy may be for one cluster.
func TestFindLeastPrivilege(t *testing.T) {
	a := start(t)
	populate(a)
	a.Attach(janeARN, fakeaws.Policy{Actions: []string{"rds:DescribeDBClusters"},
		Resources: []string{"arn:aws:rds:eu-west-1:" + account + ":cluster:mydb"}})
	client := as(t, jane)
	if _, err := client.Find(t.Context(), cluster); err != nil {
		t.Error(err)
	}
	_, err := client.Find(t.Context(), far)
	expectError(t, err, rdsapi.ErrNotPermitted, "rds:DescribeDBClusters is not allowed")
}

// A shard group may have a name with limitless.
func TestFindLimitless(t *testing.T) {
	a := start(t)
	populate(a)
	a.Allow(janeARN, "rds:DescribeDBClusters")
	client := as(t, jane)
	db, err := client.Find(t.Context(), "mydb.limitless-cabcdefghijk.eu-west-1.rds.amazonaws.com")
	if err != nil || db.ID != "cluster-MYDB" || db.Identifier != "mydb" || db.Instance != "" {
		t.Errorf("%+v, %v", db, err)
	}
	_, err = client.Find(t.Context(), "mydb.limitless-cotherothero.eu-west-1.rds.amazonaws.com")
	expectError(t, err, rdsapi.ErrNotFound, "has another endpoint, "+cluster)
}

// The account of a DSQL cluster is that of the credentials, if known.
func TestFindDSQLAccount(t *testing.T) {
	start(t)
	t.Setenv("AWS_ACCOUNT_ID", account)
	db, err := as(t, jane).Find(t.Context(), dsql)
	if err != nil || db.Account != account {
		t.Errorf("%+v, %v", db, err)
	}
}

func TestFindProxyAuth(t *testing.T) {
	a := start(t)
	a.Allow(fakeaws.Everyone, "rds:*")
	client := as(t, jane)
	for name, test := range map[string]struct {
		proxy fakeaws.Proxy
		iam   bool
	}{
		"no secrets":           {fakeaws.Proxy{}, false},
		"passwords":            {fakeaws.Proxy{IAMAuth: []string{"DISABLED"}}, false},
		"IAM required for one": {fakeaws.Proxy{IAMAuth: []string{"DISABLED", "REQUIRED"}}, true},
		"IAM enabled":          {fakeaws.Proxy{IAMAuth: []string{"ENABLED"}}, true},
		"IAM by default":       {fakeaws.Proxy{DefaultAuthScheme: "IAM_AUTH"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			test.proxy.Endpoint = proxy
			test.proxy.ResourceID = "prx-front"
			a.AddProxy(test.proxy)
			db, err := client.Find(t.Context(), proxy)
			if err != nil || db.IAM != test.iam {
				t.Errorf("%v, %v", db.IAM, err)
			}
		})
	}
}

func TestNotFound(t *testing.T) {
	a := start(t)
	populate(a)
	a.AddGlobalCluster(fakeaws.GlobalCluster{Endpoint: "lost.global-cabcdefghijk.global.rds.amazonaws.com"})
	a.AddInstance(fakeaws.Instance{Endpoint: "other.cabcdefghijk.eu-west-1.rds.amazonaws.com", Account: "444455556666"})
	a.Allow(fakeaws.Everyone, "rds:*")
	client := as(t, jane)
	for host, part := range map[string]string{
		"gone.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com":          `this account has no cluster "gone" in eu-west-1; the database belongs to another account`,
		"mydb.cluster-cabcdefghijk.eu-central-1.rds.amazonaws.com":       `no cluster "mydb" in eu-central-1`,
		"mydb.cluster-cotherothero.eu-west-1.rds.amazonaws.com":          "has another endpoint, " + cluster + "",
		"single.cotherothero.eu-west-1.rds.amazonaws.com":                "has another endpoint, " + instance,
		"gone.cabcdefghijk.eu-west-1.rds.amazonaws.com":                  `no instance "gone"`,
		"other.cabcdefghijk.eu-west-1.rds.amazonaws.com":                 `no instance "other"`,
		"gone.cluster-custom-cabcdefghijk.eu-west-1.rds.amazonaws.com":   `no custom endpoint "gone"`,
		"reports.cluster-custom-cotherother.eu-west-1.rds.amazonaws.com": "has another endpoint, " + custom,
		"gone.shardgrp-cabcdefghijk.eu-west-1.rds.amazonaws.com":         `no shard group "gone"`,
		"shards.shardgrp-cotherothero.eu-west-1.rds.amazonaws.com":       "has another endpoint, " + shards,
		"gone.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com":            `no RDS Proxy "gone"`,
		"front.proxy-cotherothero.eu-west-1.rds.amazonaws.com":           "has another endpoint, " + proxy,
		"gone.endpoint.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com":   `no RDS Proxy endpoint "gone"`,
		"readers.endpoint.proxy-cotheroth.eu-west-1.rds.amazonaws.com":   "has another endpoint, " + added,
		"gone.global-cabcdefghijk.global.rds.amazonaws.com":              `no global cluster "gone"`,
		"world.global-cotherothero.global.rds.amazonaws.com":             "has another endpoint, " + global,
		"lost.global-cabcdefghijk.global.rds.amazonaws.com":              "has no writer at the moment",
	} {
		t.Run(host, func(t *testing.T) {
			_, err := client.Find(t.Context(), host)
			expectError(t, err, rdsapi.ErrNotFound, part)
		})
	}
	_, err := client.Find(t.Context(), "db.example.com")
	expectError(t, err, nil, "db.example.com is not a name that AWS assigns")
}
