package rdsapi

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"github.com/iamproxy/iamproxy/auth"
)

// ofCluster is a cluster's Database, but for the name that was asked for.
func ofCluster(c types.DBCluster) Database {
	db := Database{
		Resource:   resource(c.DBClusterArn, c.DbClusterResourceId),
		Identifier: aws.ToString(c.DBClusterIdentifier),
		InCluster:  true,
		Writer:     aws.ToString(c.Endpoint),
		IAM:        aws.ToBool(c.IAMDatabaseAuthenticationEnabled),
		Status:     aws.ToString(c.Status),
		Engine:     aws.ToString(c.Engine),
		Port:       int(aws.ToInt32(c.Port)),
		MasterUser: aws.ToString(c.MasterUsername),
		// The latter is Aurora's way without a VPC.
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

// ofInstance is that of an instance by itself.
func ofInstance(i types.DBInstance) Database {
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

// ofMember is that of a cluster's instance: users and their logins are the cluster's, and
// the way to it is the instance's.
func ofMember(cluster, instance Database) Database {
	db := cluster
	db.Instance, db.Status = instance.Instance, instance.Status
	db.Port, db.SecurityGroups = instance.Port, instance.SecurityGroups
	return db
}

// ofProxy is that of an RDS Proxy, which asks for tokens either of those users that it has a
// secret of, as each secret's entry says, or of all.
// https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBProxy.html
func ofProxy(p types.DBProxy) Database {
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

// resource takes what it can from the ARN: without an id, that as well.
func resource(databaseARN, id *string) auth.Resource {
	parsed, _ := arn.Parse(aws.ToString(databaseARN)) // RDS knows its own
	if id == nil {
		last := lastWord(parsed.Resource)
		id = &last
	}
	return auth.Resource{Region: parsed.Region, Account: parsed.AccountID, ID: *id}
}

// lastWord is the mydb of cluster:mydb.
func lastWord(resource string) string { return resource[strings.LastIndexByte(resource, ':')+1:] }

func securityGroups(memberships []types.VpcSecurityGroupMembership) []string {
	var ids []string
	for _, m := range memberships {
		ids = append(ids, aws.ToString(m.VpcSecurityGroupId))
	}
	return ids
}
