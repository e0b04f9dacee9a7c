package iampolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
)

// fakeLookup returns fixed answers.
type fakeLookup struct {
	caller auth.Caller
	found  rdsapi.Database
	err    error
}

func (l fakeLookup) Caller(context.Context) (auth.Caller, error) { return l.caller, l.err }

func (l fakeLookup) Find(context.Context, string) (rdsapi.Database, error) { return l.found, l.err }

func TestResolve(t *testing.T) {
	const (
		region   = "eu-west-1"
		host     = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
		dsqlHost = "abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws"
	)
	database := rdsapi.Database{Identifier: "mydb", IAM: true,
		Resource: auth.Resource{Kind: auth.Cluster, Region: region, Account: "444455556666", ID: "cluster-FOUND"}}
	instance, disabled := database, database
	instance.Instance, disabled.IAM = "mydb-1", false
	for _, test := range []struct {
		name     string
		resolver Resolver
		lookup   fakeLookup
		host     string
		want     string // account and resource id
		wantErr  string
		wantNote string
	}{
		{name: "found", lookup: fakeLookup{found: database}, host: host, want: "444455556666 cluster-FOUND"},
		{name: "found, account given", resolver: Resolver{Account: "444455556666"}, lookup: fakeLookup{found: database}, host: host, want: "444455556666 cluster-FOUND"},
		{name: "both given", resolver: Resolver{Account: "444455556666", ResourceID: "cluster-A"}, lookup: fakeLookup{err: errors.New("no network")}, host: host, want: "444455556666 cluster-A"},
		{name: "instance", lookup: fakeLookup{found: instance}, host: "mydb-1.cabcdefghijk.eu-west-1.rds.amazonaws.com", want: "444455556666 cluster-FOUND", wantNote: "an instance of the cluster mydb"},
		{name: "global", lookup: fakeLookup{found: database}, host: "g.global-cabcdefghijk.global.rds.amazonaws.com", want: "444455556666 cluster-FOUND", wantNote: "the primary cluster"},
		{name: "IAM disabled", lookup: fakeLookup{found: disabled}, host: host, want: "444455556666 cluster-FOUND", wantNote: "IAM authentication is not enabled on mydb"},
		{name: "resource id given", resolver: Resolver{ResourceID: "cluster-A"}, lookup: fakeLookup{caller: auth.Caller{Account: "777788889999"}}, host: host, want: "777788889999 cluster-A", wantNote: "account 777788889999 is that of the caller"},
		{name: "account from the access key", resolver: Resolver{ResourceID: "cluster-A"}, lookup: fakeLookup{caller: auth.Caller{Account: "777788889999"}, err: errors.New("no network")}, host: host, want: "777788889999 cluster-A", wantNote: "is that of the caller"},
		{name: "DSQL", lookup: fakeLookup{caller: auth.Caller{Account: "777788889999"}}, host: dsqlHost, want: "777788889999 abcdefghijklmnopqrstuvwxyz", wantNote: "is that of the caller"},
		{name: "not permitted", lookup: fakeLookup{err: fmt.Errorf("rds:X: %w", rdsapi.ErrNotPermitted)}, host: host, wantErr: "rds:X: not permitted; set --account and --resource-id, which a caller with the permission can look up: aws rds --region eu-west-1 describe-db-clusters"},
		{name: "not found", lookup: fakeLookup{err: rdsapi.ErrNotFound}, host: host, wantErr: "use credentials of the database's account (--profile, --assume-role), or set --account and --resource-id"},
	} {
		t.Run(test.name, func(t *testing.T) {
			db := Database{Host: test.host, Kind: auth.ParseName(test.host).Kind, Region: region}
			got, err := test.resolver.Resolve(t.Context(), db, test.lookup)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Errorf("got %+v, %v, want %q", got, err, test.wantErr)
				}
				return
			}
			if err != nil || got.Account+" "+got.ID != test.want {
				t.Errorf("got %+v, %v, want %s", got, err, test.want)
			}
			if notes := strings.Join(test.resolver.Notes, "\n"); !strings.Contains(notes, test.wantNote) || test.wantNote == "" && notes != "" {
				t.Errorf("notes %q, want %q", notes, test.wantNote)
			}
			if needs := test.resolver.NeedsLookup(db); needs != (test.name != "both given") {
				t.Errorf("needs a lookup: %v", needs)
			}
		})
	}
}
