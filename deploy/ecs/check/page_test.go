//go:build linux

package check

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
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

// fakeAWS is the AWS CLI of the test. It answers what the page asks for, and records each call.
const fakeAWS = `#!/bin/sh
{ printf '%s\037' "$@"; printf '\036'; } >>"$CALLS"
case "$*" in
"sts get-caller-identity "*) echo ` + account + ` ;;
"configure get region") echo us-east-2 ;;
"rds describe-db-clusters "*'[0].Endpoint '*) echo ` + host + ` ;;
"rds describe-db-clusters "*'[0].DbClusterResourceId '*) echo cluster-ZYXWVUTSRQP ;;
"rds describe-db-clusters "*'[0].MasterUserSecret.SecretArn '*) echo 'arn:aws:secretsmanager:us-east-2:` + account + `:secret:rds!cluster-76543210-UvWxYz' ;;
"rds modify-db-cluster "* | "iam "* | "logs "* | "ecs register-task-definition "* | "ecs update-service "*) ;;
"ecs wait "* | "ecs describe-tasks "* | "ecs execute-command "*) ;;
"ecs run-task "* | "ecs list-tasks "*) echo arn:aws:ecs:us-east-2:` + account + `:task/app/` + taskID + ` ;;
*) echo "unexpected: aws $*" >&2; exit 2 ;;
esac
`

// fakeGit makes a clone with the files of deploy/ecs.
const fakeGit = `#!/bin/sh
mkdir -p iamproxy/deploy/ecs && cp "$FILES"/*.json iamproxy/deploy/ecs
`

var blocks = regexp.MustCompile("(?ms)^```(sh|json)\n(.*?)^```$")

// pageBlocks returns the blocks of docs/ecs.md in a language.
func pageBlocks(t *testing.T, language string) (found []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/ecs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range blocks.FindAllStringSubmatch(string(text), -1) {
		if block[1] == language {
			found = append(found, block[2])
		}
	}
	if len(found) == 0 {
		t.Fatalf("docs/ecs.md has no %s", language)
	}
	return found
}

// runPage runs all shell blocks of the page in one shell, and returns the directory of the files and
// the calls of the AWS CLI.
func runPage(t *testing.T) (dir string, calls [][]string) {
	t.Helper()
	work, bin := t.TempDir(), t.TempDir()
	files, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"aws": fakeAWS, "git": fakeGit} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	script := strings.Join(pageBlocks(t, "sh"), "\n")
	const example = "IMAGE=ghcr.io/iamproxy/iamproxy:v1.2.3"
	if !strings.Contains(script, example) {
		t.Errorf("the page has no %s", example)
	}
	script = strings.Replace(script, example, "IMAGE="+image, 1)
	cmd := exec.Command("sh", "-euc", script)
	record := filepath.Join(t.TempDir(), "calls")
	cmd.Dir, cmd.Env = work, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "CALLS="+record, "FILES="+files)
	if out, err := container.Run(cmd); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for call := range strings.SplitSeq(strings.TrimSuffix(string(text), "\x1e"), "\x1e") {
		calls = append(calls, strings.Split(strings.TrimSuffix(call, "\x1f"), "\x1f"))
	}
	return filepath.Join(work, "iamproxy/deploy/ecs"), calls
}

// TestPage runs the commands of docs/ecs.md. They must replace all example names in the files, and
// give the AWS CLI files that exist, and a check that iamproxy accepts.
func TestPage(t *testing.T) {
	dir, calls := runPage(t)
	for name, check := range checks {
		text, err := os.ReadFile(filepath.Join(dir, name))
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
	var overrides, streams, executed, used string
	for _, call := range calls {
		for i, arg := range call {
			if name, ok := strings.CutPrefix(arg, "file://"); ok {
				used += " " + name
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("%q: %v", call, err)
				}
			}
			switch arg {
			case "--overrides":
				overrides = call[i+1]
			case "--log-stream-names":
				streams = call[i+1]
			case "--command":
				executed = call[i+1]
			}
		}
	}
	for name := range checks {
		if name != "task-definition-bridge.json" && !strings.Contains(used, " "+name) {
			t.Errorf("the page does not use %s", name)
		}
	}
	if streams != "ecs/grant/"+taskID {
		t.Errorf("log stream %s", streams)
	}

	var override types.TaskOverride
	if err := strictly([]byte(overrides), &override); err != nil || len(override.ContainerOverrides) != 1 {
		t.Fatalf("%v: %s", err, overrides)
	}
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

// TestPageJSON compares the JSON of the page with the files.
func TestPageJSON(t *testing.T) {
	task := mustParse(t, "task-definition.json")
	sidecar, app := containerNamed(task, "iamproxy"), containerNamed(task, "app")
	for _, block := range pageBlocks(t, "json") {
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
			if err := strictly([]byte(text), &got); err != nil || !reflect.DeepEqual(got.DependsOn, app.DependsOn) {
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
