package auth

import "strings"

// Resource is a database as a policy names it.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html
type Resource struct {
	Kind    Kind
	Region  string
	Account string // 12 digits: the database's
	// ID is the DbClusterResourceId (cluster-...), of an instance that is in no cluster
	// the DbiResourceId (db-...), of an RDS Proxy the end of its ARN (prx-...), and of
	// Aurora DSQL the first word of its name. Of the others their names do not tell it.
	ID string
}

// ARN is what user's login is asked for on. Aurora DSQL has one for all users.
func (r Resource) ARN(user string) string {
	prefix := "arn:" + partition(r.Region) + ":"
	if r.Kind == DSQL {
		return prefix + "dsql:" + r.Region + ":" + r.Account + ":cluster/" + r.ID
	}
	return prefix + "rds-db:" + r.Region + ":" + r.Account + ":dbuser:" + r.ID + "/" + user
}

// Action is what user has to be allowed.
func (r Resource) Action(user string) string {
	if r.Kind == DSQL {
		return "dsql:" + dsqlAction(user)
	}
	return "rds-db:connect"
}

// dsqlID is the first word of the name of an Aurora DSQL cluster.
func dsqlID(host string) string {
	id, _, _ := strings.Cut(host, ".")
	return id
}
