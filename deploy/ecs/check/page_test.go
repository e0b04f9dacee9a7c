//go:build linux

package check

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/container"
)

// The names of an account, which the blocks of the page put into the files.
const (
	account = "444455556666"
	host    = "other.cluster-cotherother0.us-east-2.rds.amazonaws.com"
	image   = account + ".dkr.ecr.us-east-2.amazonaws.com/iamproxy:v1.2.3"
	taskID  = "0123456789abcdef0123456789abcdef"
)

// fakeAWS is the AWS CLI of the test. It answers the requests of the page, and records each call.
const fakeAWS = `#!/bin/sh
{ printf '%s\037' "$@"; printf '\036'; } >>"$CALLS"
case "$*" in
"rds describe-db-clusters "*'[0].DBClusterArn || '*) echo arn:aws:rds:us-east-2:` + account + `:cluster:mydb ;;
"rds describe-db-clusters "*'[0].Endpoint || '*) echo ` + host + ` ;;
"rds describe-db-clusters "*'[0].DbClusterResourceId || '*) echo cluster-ZYXWVUTSRQP ;;
"rds describe-db-clusters "*'[0].MasterUserSecret.SecretArn || '*) echo "$SECRET" ;;
"rds modify-db-cluster "* | "iam "* | "logs "* | "ecs register-task-definition "* | "ecs update-service "*) ;;
"ecs create-service "* | "ecs delete-service "*) ;;
"ecs describe-services "*) echo arn:aws:ecs:us-east-2:` + account + `:task-definition/app:1 ;;
"ecs wait "* | "ecs describe-tasks "* | "ecs execute-command "*) ;;
"ecs run-task "*"$FAILS"*) echo "arn:aws:ecs:us-east-2:` + account + `:container-instance/x	RESOURCE:MEMORY" ;;
"ecs run-task "* | "ecs list-tasks "*) echo arn:aws:ecs:us-east-2:` + account + `:task/app/` + taskID + ` ;;
*) echo "unexpected: aws $*" >&2; exit 2 ;;
esac
`

// fakeGit makes a clone with the files of deploy/ecs.
const fakeGit = `#!/bin/sh
mkdir -p iamproxy/deploy/ecs && cp "$FILES"/*.json iamproxy/deploy/ecs
`

var blocks = regexp.MustCompile("(?ms)^```(sh|json|sql)\n(.*?)^```$")

// pageBlocks returns the blocks of a page in a language.
func pageBlocks(t *testing.T, page, language string) (found []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks.FindAllStringSubmatch(string(text), -1) {
		if block[1] == language {
			found = append(found, block[2])
		}
	}
	if len(found) == 0 {
		t.Fatalf("docs/%s has no %s", page, language)
	}
	return found
}

// adminSecret is the secret that RDS manages in the account of the test.
const adminSecret = "arn:aws:secretsmanager:us-east-2:" + account + ":secret:rds!cluster-76543210-UvWxYz"

// page is a shell for the blocks of a page, with the AWS CLI of the test.
type page struct {
	dir    string // of the files, when the blocks have run
	out    string
	err    error
	calls  [][]string // of the AWS CLI
	secret string     // managed by RDS; None if there is none
	fails  string     // an option of run-task with which ECS starts no task
	user   string     // the database user
}

// run runs shell blocks.
func (p *page) run(t *testing.T, blocks ...string) {
	t.Helper()
	work, bin := t.TempDir(), t.TempDir()
	files, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"aws": fakeAWS, "git": fakeGit} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script := strings.Join(blocks, "\n")
	for example, name := range map[string]string{"IMAGE=ghcr.io/iamproxy/iamproxy:v1.2.3": "IMAGE=" + image, "DBUSER=app": "DBUSER=" + p.user} {
		if !strings.Contains(script, example+"\n") {
			t.Errorf("the page has no %s", example)
		}
		script = strings.Replace(script, example+"\n", name+"\n", 1)
	}
	cmd := exec.Command("sh", "-euc", script)
	record := filepath.Join(t.TempDir(), "calls")
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CALLS="+record, "FILES="+files, "SECRET="+p.secret, "FAILS="+p.fails)
	p.out, p.err = container.Run(cmd)
	p.dir = filepath.Join(work, "iamproxy/deploy/ecs")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x1e"), "\x1e") {
		p.calls = append(p.calls, strings.Split(strings.TrimSuffix(call, "\x1f"), "\x1f"))
	}
}

// runPage runs all shell blocks of pages in one shell.
func runPage(t *testing.T, user string, pages ...string) *page {
	t.Helper()
	p := &page{secret: adminSecret, fails: "--none", user: user}
	var blocks []string
	for _, name := range pages {
		blocks = append(blocks, pageBlocks(t, name, "sh")...)
	}
	p.run(t, blocks...)
	if p.err != nil {
		t.Fatalf("%v: %s", p.err, p.out)
	}
	return p
}

// overrides returns the values of --overrides of all calls.
func (p *page) overrides(t *testing.T) (found []types.TaskOverride) {
	t.Helper()
	for _, call := range p.calls {
		for i, arg := range call {
			if arg == "--overrides" {
				var override types.TaskOverride
				if err := strictly([]byte(call[i+1]), &override); err != nil || len(override.ContainerOverrides) != 1 {
					t.Fatalf("%v: %s", err, call[i+1])
				}
				found = append(found, override)
			}
		}
	}
	return found
}

// checkFiles checks the files after the blocks have put the names into them.
func (p *page) checkFiles(t *testing.T) {
	t.Helper()
	for name, check := range checks {
		text, err := os.ReadFile(filepath.Join(p.dir, name))
		if err == nil {
			err = check(text)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, example := range []string{"111122223333", "eu-west-1", "cabcdefghijk", "ABCDEFGHIJKL01234", "AbCdEf", "ghcr.io"} {
			if strings.Contains(string(text), example) {
				t.Errorf("%s still has %s", name, example)
			}
		}
	}
}

// contains reports whether a file has a text.
func (p *page) contains(t *testing.T, name, text string) bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(content), text)
}

// ownFile is the task definition of the reader, which is not one of the files.
const ownFile = "my-task-definition.json"

// TestPage runs the commands of docs/ecs.md and docs/ecs-options.md. They must replace all example names in the files, and
// give the AWS CLI files that exist, and a check that iamproxy accepts.
func TestPage(t *testing.T) {
	p := runPage(t, "app", "ecs.md", "ecs-options.md")
	p.checkFiles(t)
	var streams, executed, used string
	for _, call := range p.calls {
		for i, arg := range call {
			if name, ok := strings.CutPrefix(arg, "file://"); ok && name != ownFile {
				used += " " + name
				if _, err := os.Stat(filepath.Join(p.dir, name)); err != nil {
					t.Errorf("%q: %v", call, err)
				}
			}
			switch arg {
			case "--log-stream-names":
				streams = call[i+1]
			case "--command":
				executed = call[i+1]
			}
		}
	}
	for name := range checks {
		if !slices.Contains([]string{"task-definition.json", "task-definition-bridge.json", "task-definition-firelens.json", "migrate-task-definition.json"}, name) && !strings.Contains(used, " "+name) {
			t.Errorf("the pages do not use %s", name)
		}
	}
	if streams != "ecs/grant/"+taskID {
		t.Errorf("log stream %s", streams)
	}

	override := p.overrides(t)[0]
	command := override.ContainerOverrides[0].Command
	if name := aws.ToString(override.ContainerOverrides[0].Name); name != "grant" {
		t.Errorf("the check overrides the container %s", name)
	}
	if role := aws.ToString(override.TaskRoleArn); role != "arn:aws:iam::"+account+":role/app-task" {
		t.Errorf("the check has the role %s", role)
	}
	if want := "/iamproxy " + strings.Join(command, " "); executed != want {
		t.Errorf("%s, want %s", executed, want)
	}
	// Without a database, the check fails at the name. It would exit with 2 for a wrong argument.
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	out, err := container.Run(container.NewNetwork(t).Command(container.Credentials(), binary, command...))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, host) {
		t.Errorf("%q: %v %s", command, err, out)
	}
}

// TestPageMigrate runs the commands of docs/ecs-migrate.md after those of docs/ecs.md, with the
// second user.
func TestPageMigrate(t *testing.T) {
	p := runPage(t, "app_iam", "ecs.md", "ecs-migrate.md")
	p.checkFiles(t)
	for name, text := range map[string]string{
		"task-role-policy.json":         "/app_iam\"",
		"task-definition.json":          "postgres://app_iam@localhost",
		"task-definition-bridge.json":   "postgres://app_iam@/mydb",
		"task-definition-firelens.json": "postgres://app_iam@localhost",
		"grant-task-definition.json":    "--user=app_iam\"",
		"migrate-task-definition.json":  "--user=app_iam\"",
	} {
		if !p.contains(t, name, text) {
			t.Errorf("%s has no %s", name, text)
		}
	}
	var calls []string
	for _, call := range p.calls {
		calls = append(calls, strings.Join(call, " "))
	}
	for _, want := range []string{
		"ecs register-task-definition --cli-input-json file://" + ownFile,
		"ecs register-task-definition --cli-input-json file://task-definition.json",
		"ecs run-task --cluster app --launch-type FARGATE --task-definition iamproxy-example --overrides",
		"logs tail /ecs/app --log-stream-names ecs/app/" + taskID,
		"logs tail /ecs/app --log-stream-names ecs/grant/" + taskID,
		"ecs wait services-inactive --cluster app --services app-iam",
		"iam put-role-policy --role-name app-task --policy-name iamproxy-app_iam ",
		"ecs register-task-definition --cli-input-json file://migrate-task-definition.json",
		"ecs run-task --cluster app --launch-type FARGATE --task-definition iamproxy-migrate --network",
		"ecs run-task --cluster app --launch-type FARGATE --task-definition iamproxy-migrate --overrides",
		"ecs create-service --cluster app --service-name app-iam --task-definition app --desired-count 1 ",
		"ecs delete-service --cluster app --service app-iam ",
		"ecs update-service --cluster app --service app --task-definition arn:aws:ecs:us-east-2:" + account + ":task-definition/app:1",
	} {
		if !slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, want) }) {
			t.Errorf("no aws %s in %s", want, strings.Join(calls, "\n"))
		}
	}
	overrides := p.overrides(t)
	task, example := mustParse(t, "migrate-task-definition.json"), mustParse(t, "task-definition.json")
	var queries []string
	for _, override := range overrides {
		container := override.ContainerOverrides[0]
		name := aws.ToString(container.Name)
		switch {
		case containerNamed(example, name) != nil:
			url := "postgres://app_iam@localhost:5432/mydb?sslmode=disable"
			if len(container.Command) != 4 || !slices.Equal(container.Command[:3], []string{"psql", url, "-c"}) {
				t.Fatalf("the example runs %q", container.Command)
			}
			queries = append(queries, container.Command[3])
		case containerNamed(task, name) == nil:
			t.Errorf("the task has no container %s", name)
		}
	}
	if len(queries) != 2 || !strings.Contains(queries[0], "'app'") || !strings.Contains(queries[1], "'app_iam'") {
		t.Errorf("the example runs %q", queries)
	}
	last := overrides[len(overrides)-1].ContainerOverrides[0]
	if len(last.Environment) != 1 || aws.ToString(last.Environment[0].Name) != "SQL" || variable(containerNamed(task, "sql"), "SQL") == "" {
		t.Errorf("the last task has the variables %v", last.Environment)
	}
}

// TestExampleFamilies checks that no example has the name of the task family on the pages: it would
// replace the reader's task definition.
func TestExampleFamilies(t *testing.T) {
	for name := range checks {
		if strings.Contains(name, "task-definition") && !strings.HasPrefix(aws.ToString(mustParse(t, name).Family), "iamproxy-") {
			t.Errorf("%s has the family %s", name, aws.ToString(mustParse(t, name).Family))
		}
	}
}

// TestMigrateSQL compares the SQL of the task with that of docs/migrate.md.
func TestMigrateSQL(t *testing.T) {
	var want string
	for _, block := range pageBlocks(t, "migrate.md", "sql") {
		if strings.Contains(block, "GRANT app TO app_iam") {
			want = strings.Join(strings.Fields(block), " ")
		}
	}
	if got := variable(containerNamed(mustParse(t, "migrate-task-definition.json"), "sql"), "SQL"); got != want {
		t.Errorf("the task has %q, and the page %q", got, want)
	}
}

// TestPageWithoutName runs the first blocks of docs/ecs.md without a secret that RDS manages. They
// must name what is missing, and change no file.
func TestPageWithoutName(t *testing.T) {
	p := &page{fails: "--none", user: "app"}
	p.run(t, pageBlocks(t, "ecs.md", "sh")[:2]...)
	if p.err == nil || !strings.Contains(p.out, "SECRET") {
		t.Errorf("%v %s", p.err, p.out)
	}
	if !p.contains(t, "task-definition.json", "111122223333") {
		t.Error("the files were changed")
	}
}

// TestPageTaskNotStarted runs a task that ECS does not start. The function must print the reason,
// and not wait.
func TestPageTaskNotStarted(t *testing.T) {
	p := &page{secret: adminSecret, fails: "--cluster", user: "app"}
	blocks := pageBlocks(t, "ecs.md", "sh")
	end := slices.IndexFunc(blocks, func(block string) bool { return strings.HasSuffix(block, "\nrun_task iamproxy-grant\n") })
	p.run(t, blocks[:end+1]...)
	if p.err == nil || !strings.Contains(p.out, "not started: ") || !strings.Contains(p.out, "RESOURCE:MEMORY") {
		t.Errorf("%v %s", p.err, p.out)
	}
	for _, call := range p.calls {
		if call[0] == "ecs" && call[1] == "wait" {
			t.Errorf("it waits: %q", call)
		}
	}
}

// TestPageJSON compares the JSON of the pages with the files.
func TestPageJSON(t *testing.T) {
	task := mustParse(t, "task-definition.json")
	sidecar, app := containerNamed(task, "iamproxy"), containerNamed(task, "app")
	for _, block := range append(pageBlocks(t, "ecs.md", "json"), pageBlocks(t, "ecs-bridge.md", "json")...) {
		text := strings.TrimSpace(block)
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		switch {
		case strings.Contains(text, `"volumes"`):
			var got struct{ Volumes []types.Volume }
			if err := strictly([]byte(text), &got); err != nil || !reflect.DeepEqual(got.Volumes, mustParse(t, "task-definition-bridge.json").Volumes) {
				t.Errorf("not those of task-definition-bridge.json: %v %s", err, text)
			}
		case strings.Contains(text, `"dependsOn"`):
			var got types.ContainerDefinition
			if err := strictly([]byte(text), &got); err != nil || !reflect.DeepEqual(got.DependsOn, app.DependsOn) || !reflect.DeepEqual(got.Environment, app.Environment) {
				t.Errorf("not that of the application: %v %s", err, text)
			}
		default:
			var got types.ContainerDefinition
			if err := strictly([]byte(text), &got); err != nil || !reflect.DeepEqual(&got, sidecar) {
				t.Errorf("not the sidecar of task-definition.json: %v %s", err, text)
			}
		}
	}
}
