//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// The users of the place, and the action of a login.
const (
	administrator = "postgres"
	role          = "arn:aws:sts::111122223333:assumed-role/app/demo" // whose credentials sign

	connect = "rds-db:connect"

	bastion = "i-0123456789abcdef0" // forwards ports by Session Manager
)

// place is a cluster without IAM users, and a fake AWS with a managed node.
type place struct {
	// untouched selects a cluster without IAM authentication, and a role that may not log in.
	untouched bool

	cluster  aurora.Cluster
	aws      fakeaws.AWS
	gateway  fakessm.Gateway
	password string // of the administrator
}

func (p *place) open(ctx context.Context) error {
	p.password = rand.Text()
	p.aws.Gateway, p.gateway.Authorize = &p.gateway, p.aws.AuthorizeOpenDataChannel
	if err := p.aws.Start(); err != nil {
		return err
	}
	p.aws.AddKey(aurora.DefaultSessionKey, role)
	p.aws.Allow(role, "rds:Describe*", "rds:ModifyDBCluster", "iam:SimulatePrincipalPolicy", "iam:PutRolePolicy", "ssm:*", "ssmmessages:OpenDataChannel")
	p.aws.AddNode(fakeaws.Node{ID: bastion, Tags: map[string]string{"Name": "bastion"}})
	if !p.untouched {
		p.aws.Allow(role, connect)
	}
	arn := p.aws.AddCluster(fakeaws.Cluster{Endpoint: aurora.DefaultHost, IAM: !p.untouched})
	p.cluster.Certificate.NotAfter = time.Now().AddDate(0, 0, 90) // no warning in check
	if err := p.cluster.Start(ctx); err != nil {
		return err
	}
	p.gateway.Agent.Routes = map[string]string{aurora.DefaultHost: p.cluster.Addr()}
	if err := p.gateway.Start(); err != nil {
		return err
	}
	users := "arn:aws:rds-db:" + region + ":111122223333:dbuser:" + fakeaws.ResourceIDOf(aurora.DefaultHost) + "/"
	p.cluster.SetPolicy(func(key, user string) bool { return p.aws.IAMEnabled(arn) && p.aws.Permits(key, connect, users+user) })
	return p.empty(ctx)
}

// empty drops all users but the administrator, who has the privileges of one in RDS.
func (p *place) empty(ctx context.Context) error {
	conn, err := p.cluster.Admin(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE CREATEDB PASSWORD '%s'", administrator, p.password), // letters and digits
		"ALTER DATABASE " + aurora.Database + " OWNER TO " + administrator,
		"DROP ROLE " + aurora.IAMUser + ", " + aurora.OtherUser + ", " + aurora.AdminUser + ", " + aurora.PlainUser,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// lead returns the environment that leads iamproxy here.
func (p *place) lead() []string {
	return slices.Concat(sidecar.ClusterEnvironment(&p.cluster), p.endpoints())
}

// endpoints returns the variables that lead the AWS SDK to the services.
func (p *place) endpoints() []string {
	return []string{
		"AWS_ENDPOINT_URL_STS=" + p.aws.URL() + "/sts",
		"AWS_ENDPOINT_URL_RDS=" + p.aws.URL() + "/rds",
		"AWS_ENDPOINT_URL_IAM=" + p.aws.URL() + "/iam",
		"AWS_ENDPOINT_URL_SSM=" + p.aws.URL() + "/ssm",
	}
}

func (p *place) close() error {
	return errors.Join(p.cluster.Close(), p.aws.Close(), p.gateway.Close())
}
