package auth

import (
	"encoding/json"
	"testing"
)

// A name of a user is no pattern, whatever is in it.
func TestPolicyDocument(t *testing.T) {
	rds := Resource{Kind: Cluster, Region: "eu-west-1", Account: "111122223333", ID: "cluster-ABC"}
	dsql := Resource{Kind: DSQL, Region: "us-east-1", Account: "111122223333", ID: "abc"}
	for _, test := range []struct {
		resource               Resource
		user, action, allowing string
	}{
		{rds, "app", "rds-db:connect", "arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-ABC/app"},
		{rds, `a*?$<"'`, "rds-db:connect", `arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-ABC/a${*}${?}${$}<"'`},
		{dsql, "app", "dsql:DbConnect", "arn:aws:dsql:us-east-1:111122223333:cluster/abc"},
		{dsql, "admin", "dsql:DbConnectAdmin", "arn:aws:dsql:us-east-1:111122223333:cluster/abc"},
	} {
		var document struct {
			Version   string
			Statement []struct{ Effect, Action, Resource string }
		}
		if err := json.Unmarshal([]byte(PolicyDocument(test.resource, test.user)), &document); err != nil || len(document.Statement) != 1 {
			t.Fatalf("%s: %v", test.user, err)
		}
		if s := document.Statement[0]; document.Version != "2012-10-17" || s.Effect != "Allow" || s.Action != test.action || s.Resource != test.allowing {
			t.Errorf("%s: %+v", test.user, s)
		}
	}
}
