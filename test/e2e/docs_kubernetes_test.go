//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

var trustPolicy = regexp.MustCompile("(?ms)^```json\n(.*?pods\\.eks.*?)^```$")

// kubectlExec is a script in place of kubectl exec, which runs the command of the pod here.
const kubectlExec = `while [ "$1" != -- ]; do shift; done; [ "$2" = /iamproxy ] && shift 2 && exec iamproxy "$@"`

// The commands of docs/kubernetes.md that create the role and check a pod. A shell script replaces
// the AWS CLI, and another one kubectl, which runs the command of the pod here.
func TestKubernetesRole(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	createApp(t, cluster)
	d := newPageShell(t, cluster, "kubernetes.md")
	d.put("trust.json", trustPolicy.FindStringSubmatch(d.page)[1])
	d.recordAWS()
	d.program("kubectl", kubectlExec)
	d.env = append(d.env, startPageAWS(t)...)
	d.run(d.block("create-role", "--role-name iamproxy-grant"))
	d.wantSecretPolicy()
	out := d.run(d.block("ENDPOINT="), d.block("modify-db-cluster"), d.block("create-role", "--role-name app"),
		d.block("create-pod-identity-association", "--service-account app"), d.block("kubectl", "check"))
	if !regexp.MustCompile(`(?m)^login +ok`).MatchString(out) {
		t.Errorf("check printed %s", out)
	}
	for command, wants := range map[string][]string{
		"modify-db-cluster":               {"rds", "--enable-iam-database-authentication"},
		"create-role":                     {"iam", "app", "file://trust.json"},
		"create-pod-identity-association": {"eks", "arn:aws:iam::111122223333:role/app"},
	} {
		args := d.awsArguments(command)
		for _, want := range wants {
			if !slices.Contains(args, want) {
				t.Errorf("aws %q, without %s", args, want)
			}
		}
	}
	d.wantLoginPolicy()
}

// wantSecretPolicy fails unless the AWS CLI got a policy for the administrator's secret of the
// manifests, and the role of their service account.
func (d *pageShell) wantSecretPolicy() {
	d.t.Helper()
	var policy struct {
		Statement []struct{ Action, Resource string }
	}
	args := d.awsArguments("put-role-policy")
	if err := json.Unmarshal([]byte(args[len(args)-1]), &policy); err != nil {
		d.t.Fatalf("aws %q: %v", args, err)
	}
	manifest, err := os.ReadFile("../../deploy/kubernetes/overlays/grant/kustomization.yaml")
	if err != nil {
		d.t.Fatal(err)
	}
	statement := policy.Statement[0]
	if statement.Action != "secretsmanager:GetSecretValue" || !strings.Contains(string(manifest), "ADMIN_SECRET="+statement.Resource+"\n") {
		d.t.Errorf("aws %q", args)
	}
	if args := d.awsArguments("create-pod-identity-association"); !slices.Contains(args, "iamproxy-grant") || !slices.Contains(args, "arn:aws:iam::111122223333:role/iamproxy-grant") {
		d.t.Errorf("aws %q", args)
	}
}

// TestMigrateKubernetes follows docs/kubernetes-migrate.md with the SQL of its overlay. The sidecar
// runs here, at the port that the page forwards to it.
func TestMigrateKubernetes(t *testing.T) {
	t.Parallel()
	m := startMigration(t)
	of := *m.pageShell // docs/migrate.md
	page, err := os.ReadFile("../../docs/kubernetes-migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	m.page = string(page)
	sql, err := os.ReadFile("../../deploy/kubernetes/overlays/grant-migrate/app_iam.sql")
	if err != nil {
		t.Fatal(err)
	}
	m.put("app_iam.sql", string(sql))
	m.program("kubectl", `[ "$3" = rollout ] && exit; `+kubectlExec)

	// The command of the pod with psql.
	_, list, _ := strings.Cut(m.block("kubectl -n app run psql"), " -- \\\n")
	if out := m.run(m.atCluster(list)); !hasAll(out, []string{"search_path=shop, public", "50 connections"}) {
		t.Errorf("printed %s", out)
	}
	m.recordAWS()
	m.run(m.block("put-role-policy"))
	m.wantLoginPolicy()
	if policy := m.awsArguments("put-role-policy"); !strings.Contains(policy[len(policy)-1], "/app_iam\"") {
		t.Errorf("aws %q", policy)
	}

	// psql connects through the forwarded port, which is that of iamproxy here.
	forwarded := func(block string) string {
		if !strings.Contains(block, "port=6432") {
			t.Errorf("not at the forwarded port: %s", block)
		}
		return strings.ReplaceAll(block, "port=6432", "port="+m.port)
	}
	start := strings.Replace(of.block("iamproxy wait"), " &\n", " 2>iamproxy.log &\n", 1)
	out := m.run(of.block("--init app_iam.sql"), start, m.block("kubectl", "check"),
		forwarded(m.block("SELECT session_user")), forwarded(m.block("pg_stat_activity")), "iamproxy shutdown")
	if !regexp.MustCompile(`(?m)^login +ok .*, current role "app"$`).MatchString(out) {
		t.Errorf("printed %s", out)
	}
	m.want(out, `ok: user "app_iam" can log in to database "mydb"`, " app_iam      | app")
	// The session before may still be counted.
	if !regexp.MustCompile(`(?m)^ app_iam \| +[12]$`).MatchString(out) {
		t.Errorf("no count in %s", out)
	}
}
