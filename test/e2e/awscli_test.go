//go:build unix

package e2e

import (
	"context"
	"flag"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/rds"
)

// callAWS executes a command of the AWS CLI that the README has.
func callAWS(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("aws %q: no command", args)
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("aws", flag.ContinueOnError)
	switch command := args[0] + " " + args[1]; command {
	case "rds modify-db-cluster":
		id := flags.String("db-cluster-identifier", "", "")
		enable := flags.Bool("enable-iam-database-authentication", false, "")
		now := flags.Bool("apply-immediately", false, "")
		if err := flags.Parse(args[2:]); err != nil {
			return err
		}
		_, err = rds.NewFromConfig(cfg).ModifyDBCluster(ctx, &rds.ModifyDBClusterInput{
			DBClusterIdentifier: id, EnableIAMDatabaseAuthentication: enable, ApplyImmediately: now})
	case "iam put-role-policy":
		role := flags.String("role-name", "", "")
		name := flags.String("policy-name", "", "")
		document := flags.String("policy-document", "", "")
		if err := flags.Parse(args[2:]); err != nil {
			return err
		}
		_, err = iam.NewFromConfig(cfg).PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: role, PolicyName: name, PolicyDocument: document})
	default:
		return fmt.Errorf("aws %s: not a command of the README", command)
	}
	return err
}
