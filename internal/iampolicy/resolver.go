package iampolicy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/rdsapi"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Resolver finds the resources that a policy has to name. It sends requests to AWS only for
// what Account and ResourceID leave open.
type Resolver struct {
	Account, ResourceID string   // may be empty
	Notes               []string // remarks on the resources found
}

// Database identifies a database by its endpoint.
type Database struct {
	Host   string
	Kind   auth.Kind
	Region string
}

// Lookup sends requests to AWS with the credentials for one database.
type Lookup interface {
	Caller(ctx context.Context) (auth.Caller, error)
	Find(ctx context.Context, host string) (rdsapi.Database, error)
}

// NeedsLookup reports whether Resolve sends requests to AWS for a database.
func (r *Resolver) NeedsLookup(db Database) bool {
	return r.Account == "" || r.resourceID(db) == ""
}

// Resolve returns the resource of a database. The lookup may be nil unless NeedsLookup.
func (r *Resolver) Resolve(ctx context.Context, db Database, lookup Lookup) (auth.Resource, error) {
	id := r.resourceID(db)
	if id == "" {
		return r.find(ctx, db, lookup)
	}
	account := r.Account
	if account == "" {
		caller, err := lookup.Caller(ctx)
		if account = caller.Account; account == "" {
			return auth.Resource{}, accountError(db, cmp.Or(err, errors.New("STS did not return the caller identity")))
		}
		r.AddNote("account %s is that of the caller; if %s is in another account, set --account", account, db.Host)
	}
	return auth.Resource{Kind: db.Kind, Region: db.Region, Account: account, ID: id}, nil
}

// LookupError returns the error of a database for which there can be no Lookup because of err.
func (r *Resolver) LookupError(db Database, err error) error {
	if r.resourceID(db) == "" {
		return err
	}
	return accountError(db, err)
}

func accountError(db Database, err error) error {
	return fmt.Errorf("could not determine the AWS account of %s: %w; set --account", db.Host, err)
}

// resourceID returns the resource ID of a database if it is known without a lookup.
func (r *Resolver) resourceID(db Database) string {
	if db.Kind == auth.DSQL {
		return firstLabel(db.Host)
	}
	return r.ResourceID
}

func (r *Resolver) find(ctx context.Context, db Database, lookup Lookup) (auth.Resource, error) {
	found, err := lookup.Find(ctx, db.Host)
	if err != nil {
		return auth.Resource{}, lookupError(err, db)
	}
	if found.Instance != "" && strings.HasPrefix(found.ID, "cluster-") {
		r.AddNote("%s is an instance of the cluster %s; the policy is for the cluster, with all of its instances", db.Host, found.Identifier)
	}
	if db.Kind == auth.Global {
		r.AddNote("the policy is for %s, the primary cluster of %s as of now; clusters in other regions need their own policies", found.Identifier, db.Host)
	}
	if !found.IAM {
		r.AddNote("IAM authentication is not enabled on %s; enable it, because the database rejects tokens until then", found.Identifier)
	}
	return found.Resource, nil
}

// AddNote adds a note unless it exists already.
func (r *Resolver) AddNote(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, note) {
		r.Notes = append(r.Notes, note)
	}
}

// lookupError adds to an error how to get a policy without a lookup.
func lookupError(err error, db Database) error {
	advice := fmt.Sprintf("set --account and --resource-id, which a caller with the permission can look up: %s", cliCommand(db))
	switch {
	case errors.Is(err, rdsapi.ErrNotFound):
		advice = "use credentials of the database's account (--profile, --assume-role), or " + advice
	case !errors.Is(err, rdsapi.ErrNotPermitted):
		or := "; or"
		if text.Advice(err) != "" {
			or = " Or"
		}
		return fmt.Errorf("could not look up the resource ID of %s: %w%s %s", db.Host, text.WithAdvice(err), or, advice)
	}
	return fmt.Errorf("could not look up the resource ID of %s: %w; %s", db.Host, err, advice)
}

// cliCommand returns the command of the AWS CLI that prints the resource ID of a database.
func cliCommand(db Database) string {
	name := firstLabel(db.Host)
	aws := "aws rds --region " + db.Region + " describe-db-"
	switch db.Kind {
	case auth.Cluster, auth.Reader:
		return aws + "clusters --db-cluster-identifier " + name + " --query 'DBClusters[0].DbClusterResourceId'"
	case auth.Custom:
		return aws + "clusters --query \"DBClusters[?CustomEndpoints] | [?contains(CustomEndpoints, '" + db.Host + "')].DbClusterResourceId\""
	case auth.Instance:
		return aws + "instances --db-instance-identifier " + name + " --query 'DBInstances[0].[DbiResourceId,DBClusterIdentifier]' (for an instance of a cluster, look up the cluster)"
	case auth.RDSProxy:
		return aws + "proxies --query 'DBProxies[].[DBProxyName,DBProxyArn]' (the end of the ARN)"
	default:
		return aws + "clusters --query 'DBClusters[].[DBClusterIdentifier,DbClusterResourceId]'"
	}
}

func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

// AWS is a Lookup with the credentials of an identity.
type AWS struct {
	Identity *auth.Identity
	Region   string
}

// Caller returns the owner of the credentials.
func (a AWS) Caller(ctx context.Context) (auth.Caller, error) { return a.Identity.Caller(ctx) }

// Find returns the database with the endpoint host.
func (a AWS) Find(ctx context.Context, host string) (rdsapi.Database, error) {
	config, err := a.Identity.Config(ctx, a.Region)
	if err != nil {
		return rdsapi.Database{}, err
	}
	client := rdsapi.Client{Config: config}
	return client.Find(ctx, host)
}
