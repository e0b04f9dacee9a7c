//go:build linux

package check

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/container"
)

// terraform is OpenTofu or Terraform, with the stand-in for the AWS provider.
type terraform struct {
	program, config string
	modules         string // a copy of deploy/terraform
}

func newTerraform(t *testing.T) *terraform {
	t.Helper()
	tf := &terraform{program: os.Getenv("TERRAFORM"), modules: filepath.Join(t.TempDir(), "terraform")}
	if tf.program == "" {
		t.Skip("TERRAFORM is not set: make terraform-test sets it to OpenTofu or Terraform")
	}
	mirror := t.TempDir()
	provider, err := os.ReadFile(container.Build(t, ".", "./provider"))
	for name, version := range map[string]string{"aws": schemaVersion(t), "archive": "2.7.1"} {
		for _, registry := range []string{"registry.opentofu.org", "registry.terraform.io"} {
			dir := filepath.Join(mirror, registry, "hashicorp", name, version, "linux_"+goarch(t))
			err = errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "terraform-provider-"+name), provider, 0o755))
		}
	}
	tf.config = filepath.Join(mirror, "config")
	err = errors.Join(err,
		os.WriteFile(tf.config, []byte("provider_installation {\n  filesystem_mirror {\n    path = \""+mirror+"\"\n  }\n}\n"), 0o600),
		os.CopyFS(tf.modules, os.DirFS("../../terraform")))
	if err != nil {
		t.Fatal(err)
	}
	return tf
}

// schemaVersion returns the version of the AWS provider whose schemas the stand-in has.
func schemaVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("provider/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Version string }
	decode(t, string(text), &file)
	return file.Version
}

func goarch(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func (tf *terraform) run(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(tf.program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+tf.config, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (tf *terraform) must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tf.run(t, dir, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// root makes a root module of a file, next to the module, and initializes it.
func (tf *terraform) root(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(filepath.Join(dir, "terraform"), os.DirFS("../../terraform")), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
	tf.must(t, dir, "init", "-no-color")
	return dir
}

// TestTerraform checks and tests the module with Terraform's own commands, and compares the tasks
// of its example with the files.
func TestTerraform(t *testing.T) {
	tf := newTerraform(t)
	if out := tf.must(t, tf.modules, "fmt", "-check", "-recursive", "-diff", "-no-color"); out != "" {
		t.Errorf("terraform fmt: %s", out)
	}
	t.Run("own tests", func(t *testing.T) {
		tf.must(t, tf.modules, "init", "-no-color")
		tf.must(t, tf.modules, "validate", "-no-color")
		t.Log(tf.must(t, tf.modules, "test", "-no-color"))
	})
	t.Run("page", func(t *testing.T) { testTerraformPage(t, tf) })
	t.Run("variants", func(t *testing.T) { testTerraformVariants(t, tf) })
	t.Run("lambda", func(t *testing.T) { testTerraformLambda(t, tf) })
	t.Run("with the resources it uses", func(t *testing.T) {
		dir := tf.root(t, "main.tf", together)
		tf.must(t, dir, "plan", "-no-color")
	})
}

// together creates the module's inputs at the same time, so that their attributes are unknown in the plan.
const together = `
resource "aws_iam_role" "app" {
  assume_role_policy = "{}"
}

resource "aws_cloudwatch_log_group" "app" {}

module "iamproxy" {
  source = "./terraform"

  endpoint                = aws_iam_role.app.unique_id
  resource_id             = aws_iam_role.app.unique_id
  users                   = [aws_iam_role.app.unique_id]
  image                   = "${aws_iam_role.app.unique_id}:v1"
  firelens                = { Name = aws_iam_role.app.unique_id }
  log_router_image        = aws_iam_role.app.unique_id
  task_role               = aws_iam_role.app
  execution_role          = aws_iam_role.app
  log_group               = aws_cloudwatch_log_group.app
  database_security_group = aws_iam_role.app
  task_security_group     = aws_iam_role.app
}
`

// testTerraformLambda plans the configuration of deploy/lambda, which reads the layer of `make layer`.
func testTerraformLambda(t *testing.T, tf *terraform) {
	repository := t.TempDir()
	dir := filepath.Join(repository, "deploy/lambda")
	configuration, err := os.ReadFile("../../lambda/main.tf")
	if err := errors.Join(err,
		os.MkdirAll(dir, 0o755), os.MkdirAll(filepath.Join(repository, "bin"), 0o755),
		os.WriteFile(filepath.Join(dir, "main.tf"), configuration, 0o600),
		os.WriteFile(filepath.Join(repository, "bin/iamproxy-lambda-amd64.zip"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out := tf.must(t, dir, "fmt", "-check", "-diff", "-no-color"); out != "" {
		t.Errorf("terraform fmt: %s", out)
	}
	tf.must(t, dir, "init", "-no-color")
	tf.must(t, dir, "plan", "-no-color", "-var=endpoint="+required["Endpoint"], "-var=resource_id="+required["ResourceId"],
		"-var=subnets="+text(strings.Split(required["Subnets"], ",")), "-var=security_group="+required["SecurityGroup"])
}

// testTerraformPage validates the configuration of the page.
func testTerraformPage(t *testing.T, tf *terraform) {
	page, err := os.ReadFile("../../terraform/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var configuration string
	for _, block := range regexp.MustCompile("(?ms)^```hcl\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		configuration += block[1] + "\n"
	}
	const source = `"github.com/iamproxy/iamproxy//deploy/terraform?ref=v1.2.3"`
	if !strings.Contains(configuration, source) {
		t.Fatalf("the page has no %s", source)
	}
	dir := tf.root(t, "main.tf", strings.ReplaceAll(configuration, source, `"./terraform"`))
	tf.must(t, dir, "validate", "-no-color")
	if out := tf.must(t, dir, "fmt", "-check", "-diff", "-no-color"); out != "" {
		t.Errorf("terraform fmt: %s", out)
	}
}

// testTerraformVariants applies the example once for each variant.
func testTerraformVariants(t *testing.T, tf *terraform) {
	modules := map[string]any{}
	module := func(name string) string { return strings.ReplaceAll(name, " ", "_") }
	for name, v := range variants {
		settings := map[string]any{
			"source":                  "./terraform/example",
			"endpoint":                required["Endpoint"],
			"resource_id":             required["ResourceId"],
			"cluster":                 required["Cluster"],
			"subnets":                 strings.Split(required["Subnets"], ","),
			"security_group":          required["SecurityGroup"],
			"database_security_group": required["DatabaseSecurityGroup"],
		}
		maps.Copy(settings, v.terraform)
		modules[module(name)] = settings
	}
	dir := tf.root(t, "main.tf.json", text(map[string]any{"module": modules}))
	tf.must(t, dir, "apply", "-auto-approve", "-no-color")
	var state terraformState
	decode(t, tf.must(t, dir, "show", "-json", "-no-color"), &state)
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			resources := state.resources("module." + module(name) + ".")
			task := terraformTask(t, resources["aws_ecs_task_definition.app"])
			compare(t, task, v.task(t))
			stack, err := deployed(v.cloudFormation)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := containerNamed(task, "app").Environment, containerNamed(stack.task(t), "app").Environment; !reflect.DeepEqual(got, want) {
				t.Errorf("the application has %s, and that of CloudFormation %s", text(got), text(want))
			}
			for policy, file := range map[string]string{
				"module.iamproxy.aws_iam_role.task[0]":        "trust-policy.json",
				"module.iamproxy.aws_iam_role.execution[0]":   "trust-policy.json",
				"module.iamproxy.aws_iam_role_policy.connect": "task-role-policy.json",
				"module.iamproxy.aws_iam_role_policy.log[0]":  "log-role-policy.json",
			} {
				values, ok := resources[policy]
				if ok != (name == "FireLens" || !strings.Contains(policy, "log")) {
					t.Errorf("%s exists: %v", policy, ok)
				}
				if document, _ := firstOf(values, "policy", "assume_role_policy").(string); ok {
					samePolicy(t, policy, document, file)
				}
			}
			if got := resources["module.iamproxy.aws_iam_role_policy_attachment.execution[0]"]["policy_arn"]; got != executionPolicy {
				t.Errorf("the execution role has %v", got)
			}
			rule := resources["module.iamproxy.aws_vpc_security_group_ingress_rule.database[0]"]
			want := map[string]any{
				"security_group_id": required["DatabaseSecurityGroup"], "referenced_security_group_id": required["SecurityGroup"],
				"ip_protocol": "tcp", "from_port": 5432.0, "to_port": 5432.0,
			}
			for field, value := range want {
				if rule[field] != value {
					t.Errorf("%s of the rule: %v, want %v", field, rule[field], value)
				}
			}
		})
	}
}

// firstOf returns the first field that is there.
func firstOf(values map[string]any, names ...string) any {
	for _, name := range names {
		if value, ok := values[name]; ok {
			return value
		}
	}
	return nil
}

// terraformState is the output of `terraform show -json`.
type terraformState struct {
	Values struct {
		RootModule terraformModule `json:"root_module"`
	}
}

type terraformModule struct {
	Resources []struct {
		Address string
		Values  map[string]any
	}
	ChildModules []terraformModule `json:"child_modules"`
}

// resources returns the attributes of the resources of a module, by address.
func (s terraformState) resources(module string) map[string]map[string]any {
	found := map[string]map[string]any{}
	queue := []terraformModule{s.Values.RootModule}
	for len(queue) > 0 {
		for _, r := range queue[0].Resources {
			if address, ok := strings.CutPrefix(r.Address, module); ok {
				found[address] = r.Values
			}
		}
		queue = append(queue[1:], queue[0].ChildModules...)
	}
	return found
}

// terraformTask returns the task that the provider registers for a resource.
func terraformTask(t *testing.T, values map[string]any) *ecs.RegisterTaskDefinitionInput {
	t.Helper()
	var resource struct {
		Family, Cpu, Memory     string                //nolint:revive // the names of Terraform
		NetworkMode             types.NetworkMode     `json:"network_mode"`
		RequiresCompatibilities []types.Compatibility `json:"requires_compatibilities"`
		TaskRoleARN             string                `json:"task_role_arn"`
		ExecutionRoleARN        string                `json:"execution_role_arn"`
		ContainerDefinitions    string                `json:"container_definitions"`
		RuntimePlatform         []struct {
			OperatingSystemFamily types.OSFamily        `json:"operating_system_family"`
			CPUArchitecture       types.CPUArchitecture `json:"cpu_architecture"`
		} `json:"runtime_platform"`
		Volume []struct {
			Name   string
			Docker []struct {
				Scope      types.Scope
				Driver     string
				DriverOpts map[string]string `json:"driver_opts"`
			} `json:"docker_volume_configuration"`
		}
	}
	decode(t, text(values), &resource)
	task := &ecs.RegisterTaskDefinitionInput{
		Family: &resource.Family, Cpu: &resource.Cpu, Memory: &resource.Memory,
		NetworkMode: resource.NetworkMode, RequiresCompatibilities: resource.RequiresCompatibilities,
		TaskRoleArn: &resource.TaskRoleARN, ExecutionRoleArn: &resource.ExecutionRoleARN,
	}
	if err := strictly([]byte(resource.ContainerDefinitions), &task.ContainerDefinitions); err != nil {
		t.Fatalf("%v: %s", err, resource.ContainerDefinitions)
	}
	for i := range task.ContainerDefinitions {
		c := &task.ContainerDefinitions[i]
		if len(c.MountPoints) == 0 {
			c.MountPoints = nil // which for ECS equals an empty list
		}
	}
	for _, platform := range resource.RuntimePlatform {
		task.RuntimePlatform = &types.RuntimePlatform{OperatingSystemFamily: platform.OperatingSystemFamily, CpuArchitecture: platform.CPUArchitecture}
	}
	for _, v := range resource.Volume {
		task.Volumes = append(task.Volumes, types.Volume{Name: &v.Name, DockerVolumeConfiguration: &types.DockerVolumeConfiguration{
			Scope: v.Docker[0].Scope, Driver: aws.String(v.Docker[0].Driver), DriverOpts: v.Docker[0].DriverOpts,
		}})
	}
	sent, err := whatIsSent(task)
	if err == nil {
		task, err = parseTask(sent)
	}
	if err != nil {
		t.Fatal(err)
	}
	return task
}
