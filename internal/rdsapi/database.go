package rdsapi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/iamproxy/iamproxy/auth"
)

// fromCluster returns the Database of a cluster, without a Kind.
func fromCluster(c dbCluster) Database {
	return Database{
		Resource:       resource(c.ARN, c.ResourceID),
		Identifier:     c.Identifier,
		InCluster:      true,
		Writer:         c.Endpoint,
		IAM:            c.IAM,
		IAMPending:     c.IAMPending,
		Status:         c.Status,
		Engine:         c.Engine,
		Port:           c.Port,
		MasterUser:     c.MasterUsername,
		MasterSecret:   c.MasterSecret,
		SecurityGroups: c.SecurityGroups,
	}
}

// fromInstance returns the Database of an instance outside a cluster.
func fromInstance(i dbInstance) Database {
	return Database{
		Resource:       resource(i.ARN, i.ResourceID),
		Identifier:     i.Identifier,
		Instance:       i.Identifier,
		IAM:            i.IAM,
		IAMPending:     i.IAMPending,
		Status:         i.Status,
		Engine:         i.Engine,
		Port:           i.Port,
		MasterUser:     i.MasterUsername,
		MasterSecret:   i.MasterSecret,
		SecurityGroups: i.SecurityGroups,
	}
}

// fromMember returns the Database of an instance in a cluster. Users, authentication and the
// resource ID are the cluster's; status, port and security groups are the instance's.
func fromMember(cluster, instance Database) Database {
	db := cluster
	db.Instance, db.Status = instance.Instance, instance.Status
	db.Port, db.SecurityGroups = instance.Port, instance.SecurityGroups
	return db
}

// fromProxy returns the Database of an RDS Proxy. IAM authentication is enabled for each
// secret, or by default for all users.
// https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBProxy.html
func fromProxy(p dbProxy) Database {
	return Database{
		Resource:   resource(p.ARN, ""),
		Identifier: p.Name,
		IAM: p.DefaultAuthScheme == "IAM_AUTH" ||
			slices.Contains(p.IAMAuth, "REQUIRED") || slices.Contains(p.IAMAuth, "ENABLED"),
		Status:         p.Status,
		Engine:         p.EngineFamily,
		Port:           port,
		SecurityGroups: p.SecurityGroups,
	}
}

// resource returns the Resource with an ARN. If id is empty, the ID is taken from the ARN.
func resource(databaseARN, id string) auth.Resource {
	parsed, _ := arn.Parse(databaseARN) // RDS returns valid ARNs
	return auth.Resource{Region: parsed.Region, Account: parsed.AccountID, ID: cmp.Or(id, lastPart(parsed.Resource))}
}

// lastPart returns the mydb of cluster:mydb.
func lastPart(resource string) string { return resource[strings.LastIndexByte(resource, ':')+1:] }
