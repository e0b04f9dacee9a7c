package rdsapi

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/iamproxy/iamproxy/auth"
)

// fromCluster returns the Database of a cluster, without a Kind.
func fromCluster(c types.DBCluster) Database {
	db := Database{
		Resource:       resource(c.DBClusterArn, c.DbClusterResourceId),
		Identifier:     aws.ToString(c.DBClusterIdentifier),
		InCluster:      true,
		Writer:         aws.ToString(c.Endpoint),
		IAM:            aws.ToBool(c.IAMDatabaseAuthenticationEnabled),
		Status:         aws.ToString(c.Status),
		Engine:         aws.ToString(c.Engine),
		Port:           int(aws.ToInt32(c.Port)),
		MasterUser:     aws.ToString(c.MasterUsername),
		SecurityGroups: securityGroups(c.VpcSecurityGroups),
	}
	if c.MasterUserSecret != nil {
		db.MasterSecret = aws.ToString(c.MasterUserSecret.SecretArn)
	}
	if c.PendingModifiedValues != nil {
		db.IAMPending = aws.ToBool(c.PendingModifiedValues.IAMDatabaseAuthenticationEnabled)
	}
	return db
}

// fromInstance returns the Database of an instance outside a cluster.
func fromInstance(i types.DBInstance) Database {
	db := Database{
		Resource:       resource(i.DBInstanceArn, i.DbiResourceId),
		Identifier:     aws.ToString(i.DBInstanceIdentifier),
		Instance:       aws.ToString(i.DBInstanceIdentifier),
		IAM:            aws.ToBool(i.IAMDatabaseAuthenticationEnabled),
		Status:         aws.ToString(i.DBInstanceStatus),
		Engine:         aws.ToString(i.Engine),
		MasterUser:     aws.ToString(i.MasterUsername),
		SecurityGroups: securityGroups(i.VpcSecurityGroups),
	}
	if i.Endpoint != nil {
		db.Port = int(aws.ToInt32(i.Endpoint.Port))
	}
	if i.MasterUserSecret != nil {
		db.MasterSecret = aws.ToString(i.MasterUserSecret.SecretArn)
	}
	if i.PendingModifiedValues != nil {
		db.IAMPending = aws.ToBool(i.PendingModifiedValues.IAMDatabaseAuthenticationEnabled)
	}
	return db
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
func fromProxy(p types.DBProxy) Database {
	db := Database{
		Resource:       resource(p.DBProxyArn, nil),
		Identifier:     aws.ToString(p.DBProxyName),
		IAM:            aws.ToString(p.DefaultAuthScheme) == string(types.DefaultAuthSchemeIamAuth),
		Status:         string(p.Status),
		Engine:         aws.ToString(p.EngineFamily),
		Port:           port,
		SecurityGroups: p.VpcSecurityGroupIds,
	}
	for _, entry := range p.Auth {
		db.IAM = db.IAM || entry.IAMAuth == types.IAMAuthModeRequired || entry.IAMAuth == types.IAMAuthModeEnabled
	}
	return db
}

// resource returns the Resource with an ARN. If id is nil, the ID is taken from the ARN.
func resource(databaseARN, id *string) auth.Resource {
	parsed, _ := arn.Parse(aws.ToString(databaseARN)) // RDS returns valid ARNs
	if id == nil {
		last := lastPart(parsed.Resource)
		id = &last
	}
	return auth.Resource{Region: parsed.Region, Account: parsed.AccountID, ID: *id}
}

// lastPart returns the mydb of cluster:mydb.
func lastPart(resource string) string { return resource[strings.LastIndexByte(resource, ':')+1:] }

func securityGroups(memberships []types.VpcSecurityGroupMembership) []string {
	var ids []string
	for _, m := range memberships {
		ids = append(ids, aws.ToString(m.VpcSecurityGroupId))
	}
	return ids
}
