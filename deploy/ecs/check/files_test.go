package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// checks are those of each file.
var checks = map[string]func(text []byte) error{
	"task-definition.json": func(text []byte) error {
		task, err := parseTask(text)
		if err == nil {
			err = checkTask(task)
		}
		if err == nil {
			err = checkSidecar(task)
		}
		return err
	},
	"grant-task-definition.json": func(text []byte) error {
		task, err := parseTask(text)
		if err == nil {
			err = checkTask(task)
		}
		if err == nil {
			err = checkGrant(task)
		}
		return err
	},
	"task-role-policy.json": func(text []byte) error {
		s, err := parsePolicy(text)
		if err == nil {
			err = checkAllows(s, "rds-db:connect", `arn:aws:rds-db:[a-z0-9-]+:\d{12}:dbuser:(cluster|db|prx)-[A-Z0-9a-z]+/[a-z_]+`)
		}
		return err
	},
	"grant-task-role-policy.json": func(text []byte) error {
		s, err := parsePolicy(text)
		if err == nil {
			err = checkAllows(s, "secretsmanager:GetSecretValue", secretARN)
		}
		return err
	},
	"trust-policy.json": func(text []byte) error {
		s, err := parsePolicy(text)
		if err == nil {
			err = checkTrust(s)
		}
		return err
	},
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFiles(t *testing.T) {
	files, err := filepath.Glob("../*.json")
	if err != nil || len(files) != len(checks) {
		t.Errorf("%d checks for %d files, %v", len(checks), len(files), err)
	}
	for name, check := range checks {
		if err := check(read(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What one mistypes in a file is found.
func TestMistyped(t *testing.T) {
	for name, changes := range map[string][][2]string{
		"task-definition.json": {
			{`"dependsOn"`, `"dependson"`},
			{`"containerName"`, `"container"`},
			{`"containerName": "iamproxy"`, `"containerName": "iamprox"`},
			{`"HEALTHY"`, `"HEALTHLY"`},
			{`"healthCheck"`, `"healthcheck"`},
			{`"CMD", "/iamproxy"`, `"CMD-SHELL", "/iamproxy"`},
			{`"interval": 5`, `"interval": "5"`},
			{`"stopTimeout": 30`, `"stopTimeout": 25`},
			{`"stopTimeout": 60`, `"stopTimeout": 180`},
			{`"readonlyRootFilesystem"`, `"readOnlyRootFilesystem"`},
			{`"essential": true`, `"essential": false`},
			{`"FARGATE"`, `"FARGATES"`},
			{`"awsvpc"`, `"bridge"`},
			{`"awslogs-group"`, `"awslogs-grp"`},
			{`"name": "iamproxy",`, ``},
			{`"taskRoleArn"`, `"executionRole"`},
			{`["ALL"]`, `["NET_RAW"]`},
		},
		"grant-task-definition.json": {
			{`"taskRoleArn"`, `"executionRole"`},
			{`  "taskRoleArn": "arn:aws:iam::111122223333:role/iamproxy-grant",`, ``},
			{`"--admin-secret"`, `"--admin-user"`},
			{`-AbCdEf"`, `-AbCdEf:password::"`},
			{`-AbCdEf"`, `"`},
		},
		"task-role-policy.json": {
			{`"rds-db:connect"`, `"rds:connect"`},
			{`arn:aws:rds-db`, `arn:aws:rds`},
			{`cluster-ABC`, `ABC`},
			{`/app`, ``},
			{`"Resource"`, `"Resources"`},
		},
		"grant-task-role-policy.json": {
			{`-AbCdEf`, `-AbCdEf:password::`},
			{`GetSecretValue`, `*`},
		},
		"trust-policy.json": {
			{`ecs-tasks.amazonaws.com`, `ecs.amazonaws.com`},
			{`"aws:SourceAccount": "111122223333"`, `"aws:SourceAccount": ""`},
			{`"aws:SourceArn"`, `"aws:sourcearm"`},
		},
	} {
		text := string(read(t, name))
		for _, change := range changes {
			changed := strings.ReplaceAll(text, change[0], change[1])
			if changed == text {
				t.Errorf("%s has no %q", name, change[0])
			}
			if err := checks[name]([]byte(changed)); err == nil {
				t.Errorf("%s is taken with %q", name, change[1])
			}
		}
	}
}

// With the command of README.md the files become one's own, wholly.
func TestNames(t *testing.T) {
	_, command, _ := strings.Cut(string(read(t, "README.md")), "```sh\nsed -i.example")
	command, _, _ = strings.Cut(command, "```")
	dir := t.TempDir()
	for name := range checks {
		if err := os.WriteFile(filepath.Join(dir, name), read(t, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sed := exec.Command("sh", "-euc", "sed -i.example"+command)
	sed.Dir = dir
	sed.Env = append(os.Environ(), "ACCOUNT=444455556666", "REGION=us-east-2", "HOST=other.cluster-cotherother0.us-east-2.rds.amazonaws.com",
		"RESOURCE=cluster-ZYXWVUTSRQP", "SECRET=arn:aws:secretsmanager:us-east-2:444455556666:secret:rds!cluster-76543210-UvWxYz")
	if out, err := sed.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, check := range checks {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := check(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, example := range []string{"111122223333", "eu-west-1", "cabcdefghijk", "ABCDEFGHIJKL01234", "AbCdEf"} {
			if strings.Contains(string(text), example) {
				t.Errorf("%s still has %s", name, example)
			}
		}
	}
}

func mustParse(t *testing.T, name string) *ecs.RegisterTaskDefinitionInput {
	t.Helper()
	task, err := parseTask(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// All files are about one database, one user and one secret.
func TestAgree(t *testing.T) {
	sidecar := mustParse(t, "task-definition.json")
	grant := mustParse(t, "grant-task-definition.json").ContainerDefinitions[0]
	var user, database string
	for _, variable := range containerNamed(sidecar, "app").Environment {
		switch *variable.Name {
		case "PGUSER":
			user = *variable.Value
		case "PGDATABASE":
			database = *variable.Value
		}
	}
	endpoint := *containerNamed(sidecar, "iamproxy").Environment[0].Value
	granting := strings.Join(grant.Command, " ")
	if user == "" || !strings.HasPrefix(granting, "grant "+endpoint+" --user "+user+" --database "+database+" ") {
		t.Errorf("%s logs in to %s of %s; %s", user, database, endpoint, granting)
	}
	if *grant.Image != *containerNamed(sidecar, "iamproxy").Image {
		t.Errorf("image %s", *grant.Image)
	}
	allowed, err := parsePolicy(read(t, "task-role-policy.json"))
	if err != nil || !strings.HasSuffix(allowed.Resource, "/"+user) {
		t.Errorf("%s logs in, allowed is %s: %v", user, allowed.Resource, err)
	}
	secret, err := parsePolicy(read(t, "grant-task-role-policy.json"))
	if from := argument(&grant, "--admin-secret"); err != nil || from != secret.Resource {
		t.Errorf("the administrator's login is from %s, allowed is %s: %v", from, secret.Resource, err)
	}
}
