// Package grant creates database users that log in with tokens, and grants them privileges.
package grant

import (
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/proxy/upstream"
)

// rdsIAM is the role whose members log in with tokens, and only with tokens.
const rdsIAM = "rds_iam"

// Grant creates users and grants them rds_iam and privileges, all or nothing.
type Grant struct {
	// Host is the host of the endpoint, and Address its host:port, for messages.
	Host, Address string
	// Dialer connects to the database.
	Dialer *upstream.Dialer
	// Database is the database to log in to.
	Database string
	// Admin is the login of the administrator.
	Admin Admin
	// Users are the users to create, unless they exist.
	Users []string
	// Level is the privileges to grant; nil for none.
	Level *Level
	// Schemas are the schemas of Level and Script.
	Schemas []string
	// Script runs after the grants; nil for none.
	Script *Script
	// GiveUpPassword are the users whose password logins, and those of their members, may end:
	// of Users that exist, and the administrator; and users to which Script grants one of Users.
	GiveUpPassword []string
	// Timeout is the time that ctx leaves for Run, for messages and for the server.
	Timeout time.Duration
}

// Result is what Run has done.
type Result struct {
	Changes []string // and what was so already, in the order of execution
	Notes   []string // what may need attention
}

// IsPredefined reports whether a role comes with the database. With rds_iam, its members could
// not log in with passwords any more.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
func IsPredefined(role string) bool {
	return strings.HasPrefix(role, "pg_") || strings.HasPrefix(role, "rds_") ||
		slices.Contains([]string{"rdsadmin", "rdsproxyadmin", "rdsrepladmin", "rdstopmgr"}, role)
}
