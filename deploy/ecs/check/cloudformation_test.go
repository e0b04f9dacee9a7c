//go:build linux

package check

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// required has values of the parameters without a default.
var required = map[string]string{
	"Endpoint":              "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com",
	"ResourceId":            "cluster-ABCDEFGHIJKL01234",
	"DatabaseSecurityGroup": "sg-0123456789abcdef1",
	"Cluster":               "app",
	"SecurityGroup":         "sg-0123456789abcdef0",
	"Subnets":               "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
}

// deployed returns the template of deploy/cloudformation with values for further parameters.
func deployed(values map[string]string) (*template, error) {
	text, err := os.ReadFile("../../cloudformation/service.yaml")
	if err != nil {
		return nil, err
	}
	all := maps.Clone(required)
	maps.Copy(all, values)
	return parseTemplate(text, all)
}

// resource returns the properties of a resource in the form of the API, as JSON.
func (t *template) resource(test *testing.T, name string) string {
	test.Helper()
	properties, err := t.properties(name)
	if err != nil {
		test.Fatal(err)
	}
	return text(api(properties))
}

// task returns the task definition of the template.
func (t *template) task(test *testing.T) *ecs.RegisterTaskDefinitionInput {
	test.Helper()
	task, err := parseTask([]byte(t.resource(test, "TaskDefinition")))
	if err != nil {
		test.Fatal(err)
	}
	return task
}

// TestCloudFormation compares the task of the template with the files, in each variant.
func TestCloudFormation(t *testing.T) {
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			stack, err := deployed(v.cloudFormation)
			if err != nil {
				t.Fatal(err)
			}
			want := v.task(t)
			c := containerNamed(want, "iamproxy")
			for i := range c.Environment {
				if *c.Environment[i].Name == "IAMPROXY_ENDPOINTS" {
					*c.Environment[i].Value += ":5432" // from the parameter Port
				}
			}
			compare(t, stack.task(t), want)

			var service struct {
				LaunchType           string
				NetworkConfiguration *struct {
					AwsvpcConfiguration struct{ Subnets, SecurityGroups []string }
				}
			}
			decode(t, stack.resource(t, "Service"), &service)
			if bridge := v.file == "task-definition-bridge.json"; bridge != (service.LaunchType == "EC2") || bridge != (service.NetworkConfiguration == nil) {
				t.Errorf("service %+v", service)
			}
			if logs, err := stack.has("LogPolicy"); err != nil || logs != (name == "FireLens") {
				t.Errorf("policy of the log: %v %v", logs, err)
			}
		})
	}
}

// TestCloudFormationRuns logs in with the variables of the application.
func TestCloudFormationRuns(t *testing.T) {
	s := newStandIn(t)
	for _, name := range []string{"default", "bridge"} {
		t.Run(name, func(t *testing.T) {
			stack, err := deployed(variants[name].cloudFormation)
			if err != nil {
				t.Fatal(err)
			}
			s.run(t, stack.task(t))
		})
	}
}

// TestCloudFormationPolicies compares the policies of the template with the files.
func TestCloudFormationPolicies(t *testing.T) {
	stack, err := deployed(map[string]string{"Port": "5433", "LogRouterImage": router})
	if err != nil {
		t.Fatal(err)
	}
	policies := map[string]string{}
	for _, name := range []string{"TaskRole", "ExecutionRole", "ConnectPolicy", "LogPolicy"} {
		properties, err := stack.properties(name)
		if err != nil {
			t.Fatal(err)
		}
		document := properties["PolicyDocument"]
		if document == nil {
			document = properties["AssumeRolePolicyDocument"]
		}
		policies[name] = text(document)
	}
	samePolicy(t, "TaskRole", policies["TaskRole"], "trust-policy.json")
	samePolicy(t, "ExecutionRole", policies["ExecutionRole"], "trust-policy.json")
	samePolicy(t, "ConnectPolicy", policies["ConnectPolicy"], "task-role-policy.json")
	samePolicy(t, "LogPolicy", policies["LogPolicy"], "log-role-policy.json")

	var role struct{ ManagedPolicyArns []string }
	decode(t, stack.resource(t, "ExecutionRole"), &role)
	if !slices.Equal(role.ManagedPolicyArns, []string{executionPolicy}) {
		t.Errorf("the execution role has %q", role.ManagedPolicyArns)
	}

	var rule struct {
		GroupID, SourceSecurityGroupID, IPProtocol string
		FromPort, ToPort                           int
	}
	decode(t, stack.resource(t, "DatabaseIngress"), &rule)
	if rule.GroupID != required["DatabaseSecurityGroup"] || rule.SourceSecurityGroupID != required["SecurityGroup"] || rule.IPProtocol != "tcp" || rule.FromPort != 5433 || rule.ToPort != 5433 {
		t.Errorf("rule %+v", rule)
	}
}

// samePolicy compares a policy with that of a file.
func samePolicy(t *testing.T, name, got, file string) {
	t.Helper()
	a, err := parsePolicy([]byte(got))
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, got)
	}
	if b, err := parsePolicy(read(t, file)); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%s: %+v, want %+v %v", name, a, b, err)
	}
}

// TestCloudFormationParameters gives the parameters wrong values.
func TestCloudFormationParameters(t *testing.T) {
	for _, wrong := range []map[string]string{
		{"Endpoint": "postgres://mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"},
		{"Endpoint": "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com:5432"},
		{"ResourceId": "mydb"},
		{"ResourceId": "arn:aws:rds:eu-west-1:111122223333:cluster:mydb"},
		{"User": "*"},
		{"User": "a,b"},
		{"User": ""},
		{"Image": "ghcr.io/iamproxy/iamproxy"},
		{"MemoryReservation": "32"},
		{"Nofile": "-1"},
		{"NetworkMode": "host"},
		{"CpuArchitecture": "arm64"},
		{"FastStart": "true", "NetworkMode": "bridge"},
		{"FastStart": "true", "LogRouterImage": router},
		{"Port": "postgres"},
		{"Unknown": "x"},
	} {
		if _, err := deployed(wrong); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
}

// overrides returns the parameters of the command that deploys a template.
func overrides(text string) map[string]string {
	_, command, _ := strings.Cut(text, "--parameter-overrides")
	command, _, _ = strings.Cut(command, "```")
	values := map[string]string{}
	for _, word := range strings.Fields(strings.ReplaceAll(command, "\\\n", " ")) {
		name, value, _ := strings.Cut(word, "=")
		values[name] = value
	}
	return values
}

// TestCloudFormationPage checks that the command of the page gives all parameters without a default,
// and no other.
func TestCloudFormationPage(t *testing.T) {
	page, err := os.ReadFile("../../cloudformation/README.md")
	if err != nil {
		t.Fatal(err)
	}
	given := overrides(string(page))
	if !maps.Equal(given, required) {
		t.Errorf("the page gives %v, want %v", given, required)
	}
}
