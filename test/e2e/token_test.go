//go:build unix

package e2e

import (
	"context"
	"net"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// A printed token works with psql itself, in a shell and with the flags for credentials.
func TestTokenCommand(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}, ExternalID: "x-1"})
	config := s.write("config", "[profile dev]\n"+keys(aurora.DefaultKey))
	jane := append(s.janes(), "AWS_ENDPOINT_URL_STS="+s.aws.URL()+"/sts")
	const user = "--user=" + aurora.IAMUser
	for name, test := range map[string]struct {
		env, args []string
	}{
		"flags":              {keyEnvironment(aurora.DefaultSessionKey), []string{aurora.DefaultHost, user}},
		"keys":               {keyEnvironment(aurora.DefaultKey), []string{aurora.DefaultHost + "?user=iam_user&via=127.0.0.1:1&listen=127.0.0.1:2&target=any&pool=3", "--user=other"}},
		"region":             {keyEnvironment(aurora.DefaultKey), []string{aurora.DefaultHost + ":5432?region=eu-west-1", user, "--region=ap-south-1"}},
		"profile":            {[]string{"AWS_CONFIG_FILE=" + config}, []string{aurora.DefaultHost, user, "--profile=dev"}},
		"role":               {jane, []string{aurora.DefaultHost, user, "--assume-role=" + appRole, "--external-id=x-1"}},
		"role of the key":    {jane, []string{aurora.DefaultHost + "?external-id=x-1&assume-role=" + appRole, user}},
		"flags of others":    {keyEnvironment(aurora.DefaultKey), []string{aurora.DefaultHost, user, "--database=d", "--via=exec:x {port}", "--ca-file=/nonexistent"}},
		"variables of all":   {append(keyEnvironment(aurora.DefaultKey), "IAMPROXY_USER=iam_user", "IAMPROXY_VIA=127.0.0.1:1", "IAMPROXY_CA_FILE=/nonexistent", "IAMPROXY_ENDPOINTS=other"), []string{aurora.DefaultHost}},
		"profile's variable": {[]string{"AWS_CONFIG_FILE=" + config, "IAMPROXY_PROFILE=dev"}, []string{aurora.DefaultHost, user}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			args := append([]string{"-c", `PGPASSWORD=$("$PROGRAM" token "$@") psql -X -A -t -c "select 'in'" "$CONNINFO"`, "sh"}, test.args...)
			shell := client(ctx, "sh", args...)
			shell.Env = append(append(shell.Env, test.env...), "PROGRAM="+binaryPath(t), "CONNINFO="+directly(t, cluster, aurora.IAMUser))
			if out, err := combinedOutput(t, shell); err != nil || string(out) != "in\n" {
				t.Errorf("psql: %v: %s", err, out)
			}
		})
	}
}

// directly returns a connection string for the stand-in without iamproxy.
func directly(t *testing.T, cluster *aurora.Cluster, user string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(cluster.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return "host=" + aurora.DefaultHost + " hostaddr=" + host + " port=" + port + " user=" + user +
		" dbname=" + aurora.Database + " sslmode=verify-full sslrootcert=" + cluster.CAFile()
}
