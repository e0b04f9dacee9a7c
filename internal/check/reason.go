package check

import "github.com/iamproxy/iamproxy/auth"

// Reasons of steps that only a check has, since a login cannot find them. The other steps have
// the reasons of packages pgwire and auth.
const (
	reasonRegionMismatch   = "region_mismatch" // the region is not that of the endpoint's name
	reasonCredentials      = string(auth.ReasonCredentialsRejected)
	reasonDatabaseNotFound = "database_not_found" // not in the caller's account and region
	reasonDatabaseDown     = "database_down"      // stopped, starting, or failed
	reasonNotPostgreSQL    = "not_postgresql"
	reasonIAMDisabled      = "iam_disabled" // on the database
	reasonPortMismatch     = "port_mismatch"
	reasonPolicyMissing    = "policy_missing" // no policy allows the login, or one denies it
	reasonClockSkew        = "clock_skew"
	reasonNotMember        = "rds_iam_missing" // the user is not a member of rds_iam
)
