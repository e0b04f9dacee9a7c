package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// checks has the check of each file.
var checks = map[string]func(text []byte) error{
	"task-definition.json":          checkTaskFile(types.NetworkModeAwsvpc, types.CompatibilityFargate, checkSidecar),
	"task-definition-bridge.json":   checkTaskFile(types.NetworkModeBridge, types.CompatibilityEc2, checkSidecar, checkSocket),
	"task-definition-firelens.json": checkTaskFile(types.NetworkModeAwsvpc, types.CompatibilityFargate, checkSidecar),
	"grant-task-definition.json":    checkTaskFile(types.NetworkModeAwsvpc, types.CompatibilityFargate, checkGrant),
	"migrate-task-definition.json":  checkTaskFile(types.NetworkModeAwsvpc, types.CompatibilityFargate, checkGrant, checkInit),
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
	"log-role-policy.json": func(text []byte) error {
		s, err := parsePolicy(text)
		if err == nil {
			err = checkAllows(s, "logs:CreateLogStream logs:DescribeLogStreams logs:PutLogEvents", `arn:aws:logs:[a-z0-9-]+:\d{12}:log-group:/ecs/[a-z]+:\*`)
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

// checkTaskFile returns the check of a task definition, which ends at the first error.
func checkTaskFile(mode types.NetworkMode, on types.Compatibility, further ...func(*ecs.RegisterTaskDefinitionInput) error) func([]byte) error {
	return func(text []byte) error {
		task, err := parseTask(text)
		if err != nil {
			return err
		}
		if err := checkTask(task, mode, on); err != nil {
			return err
		}
		for _, check := range further {
			if err := check(task); err != nil {
				return err
			}
		}
		return nil
	}
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

// TestMistyped makes mistakes in the files, which the checks must find.
func TestMistyped(t *testing.T) {
	for name, changes := range map[string][][2]string{
		"task-definition.json": {
			{`"dependsOn"`, `"dependson"`},
			{`"containerName"`, `"container"`},
			{`"containerName": "iamproxy"`, `"containerName": "iamprox"`},
			{`"HEALTHY"`, `"HEALTHLY"`},
			{`"healthCheck"`, `"healthcheck"`},
			{`"CMD", "/iamproxy"`, `"CMD-SHELL", "/iamproxy"`},
			{`"interval": 10`, `"interval": "10"`},
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
		"task-definition-bridge.json": {
			{`"bridge"`, `"awsvpc"`},
			{`"EC2"`, `"FARGATE"`},
			{`"0666"`, `"0660"`},
			{`?host=/run/iamproxy`, `?host=localhost`},
			{`unix:/run/iamproxy`, `127.0.0.1:5432`},
			{`"containerPath": "/run/iamproxy", "readOnly": false`, `"containerPath": "/run/iamproxy", "readOnly": true`},
			{`"containerPath": "/run/iamproxy", "readOnly": false`, `"containerPath": "/run", "readOnly": false`},
			{`"sourceVolume": "iamproxy-socket"`, `"sourceVolume": "socket"`},
			{`"scope": "task"`, `"scope": "shared"`},
			{`"driverOpts"`, `"driverOptions"`},
			{`uid=65532`, `uid=1000`},
			{`mode=0755`, `mode=0700`},
		},
		"task-definition-firelens.json": {
			{`"firelensConfiguration"`, `"firelens"`},
			{`"type": "fluentbit"`, `"type": "fluentb"`},
			{`"awsfirelens"`, `"awslogs"`},
			{`"log_group_name"`, `"log-group-name"`},
		},
		"log-role-policy.json": {
			{`"logs:PutLogEvents"`, `"logs:*"`},
			{`:*"`, `"`},
		},
		"grant-task-definition.json": {
			{`"taskRoleArn"`, `"executionRole"`},
			{`  "taskRoleArn": "arn:aws:iam::111122223333:role/iamproxy-grant",`, ``},
			{`"--admin-secret"`, `"--admin-user"`},
			{`-AbCdEf"`, `-AbCdEf:password::"`},
			{`-AbCdEf"`, `"`},
		},
		"migrate-task-definition.json": {
			{`"essential": false`, `"essential": true`},
			{`"SUCCESS"`, `"START"`},
			{`"containerPath": "/sql", "readOnly": false`, `"containerPath": "/sql", "readOnly": true`},
			{`"/sql/init.sql"`, `"/init.sql"`},
			{`[{ "name": "sql" }]`, `[{ "name": "files" }]`},
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
				t.Errorf("%s is accepted with %q", name, change[1])
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

// TestAgree checks that all files have the same database, user, secret and image.
func TestAgree(t *testing.T) {
	grant := mustParse(t, "grant-task-definition.json").ContainerDefinitions[0]
	migrate := containerNamed(mustParse(t, "migrate-task-definition.json"), "grant")
	if *migrate.Image != *grant.Image || migrate.Command[1] != grant.Command[1] || argument(migrate, "--admin-secret") != argument(&grant, "--admin-secret") {
		t.Errorf("migrate-task-definition.json runs %q of %s", migrate.Command, *migrate.Image)
	}
	var user string
	for _, name := range []string{"task-definition.json", "task-definition-bridge.json", "task-definition-firelens.json"} {
		task := mustParse(t, name)
		app, sidecar := containerNamed(task, "app"), containerNamed(task, "iamproxy")
		user = databaseURL(app).User.Username()
		want := fmt.Sprintf("grant %s --user=%s --database %s ", variable(sidecar, "IAMPROXY_ENDPOINTS"), user, strings.Trim(databaseURL(app).Path, "/"))
		if granting := strings.Join(grant.Command, " "); user == "" || !strings.HasPrefix(granting, want) {
			t.Errorf("%s: %s, want %s", name, granting, want)
		}
		if *grant.Image != *sidecar.Image {
			t.Errorf("%s has another image: %s", name, *sidecar.Image)
		}
	}
	allowed, err := parsePolicy(read(t, "task-role-policy.json"))
	if err != nil || !strings.HasSuffix(string(allowed.Resource), "/"+user) {
		t.Errorf("%s logs in, and %s is allowed: %v", user, allowed.Resource, err)
	}
	secret, err := parsePolicy(read(t, "grant-task-role-policy.json"))
	if from := argument(&grant, "--admin-secret"); err != nil || from != string(secret.Resource) {
		t.Errorf("--admin-secret is %s, and %s is allowed: %v", from, secret.Resource, err)
	}
}
