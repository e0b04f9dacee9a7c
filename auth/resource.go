package auth

import "strings"

// Resource identifies a database in an IAM policy.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html
type Resource struct {
	Kind    Kind
	Region  string
	Account string // of the database, 12 digits
	// ID is the DbClusterResourceId (cluster-...), the DbiResourceId (db-...) of an
	// instance outside a cluster, the last part of an RDS Proxy's ARN (prx-...), or
	// the first label of an Aurora DSQL host name.
	ID string
}

// ARN returns the resource that a policy must allow for user. Aurora DSQL has one
// for all users.
func (r Resource) ARN(user string) string {
	prefix := "arn:" + Partition(r.Region) + ":"
	if r.Kind == DSQL {
		return prefix + "dsql:" + r.Region + ":" + r.Account + ":cluster/" + r.ID
	}
	return prefix + "rds-db:" + r.Region + ":" + r.Account + ":dbuser:" + r.ID + "/" + user
}

// Action returns the action that a policy must allow for user.
func (r Resource) Action(user string) string {
	if r.Kind == DSQL {
		return "dsql:" + dsqlAction(user)
	}
	return "rds-db:connect"
}

// dsqlID returns the identifier of an Aurora DSQL cluster, the first label of its
// host name.
func dsqlID(host string) string {
	id, _, _ := strings.Cut(host, ".")
	return id
}
