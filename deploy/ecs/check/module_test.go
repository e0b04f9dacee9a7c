//go:build linux

package check

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// existing has the attributes of the resources and data sources that the outputs refer to.
var existing = map[string]any{
	"data": map[string]any{
		"aws_caller_identity": map[string]any{"current": map[string]any{"account_id": "111122223333"}},
		"aws_partition":       map[string]any{"current": map[string]any{"partition": "aws"}},
		"aws_region":          map[string]any{"current": map[string]any{"region": "eu-west-1"}},
	},
	"aws_cloudwatch_log_group": map[string]any{"this": []any{map[string]any{"name": "/ecs/app"}}},
}

// TestModule compares the containers of the Terraform module with the files, without Terraform.
// TestTerraform compares the rest.
func TestModule(t *testing.T) {
	m, err := parseModule("../../terraform")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			inputs := map[string]any{"endpoint": required["Endpoint"], "resource_id": required["ResourceId"], "users": []string{"app"}}
			if mode, ok := v.terraform["network_mode"]; ok {
				inputs["network_mode"] = mode
			}
			options, _ := v.terraform["options"].(map[string]any)
			maps.Copy(inputs, options)
			output := func(name string, into any) {
				t.Helper()
				value, err := m.output(name, ctyOf(t, inputs), ctyOf(t, existing))
				if err != nil {
					t.Fatal(err)
				}
				out, err := ctyjson.Marshal(value, value.Type())
				if err == nil {
					err = strictly(out, into)
				}
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}

			want := v.task(t)
			app := *containerNamed(want, "app")
			app.DependsOn, app.MountPoints = nil, nil
			output("depends_on", &app.DependsOn)
			output("mount_points", &app.MountPoints)
			if len(app.MountPoints) == 0 {
				app.MountPoints = nil // which for ECS equals an empty list
			}
			got := *want
			got.ContainerDefinitions = nil
			output("container_definitions", &got.ContainerDefinitions)
			got.ContainerDefinitions = append(slices.Clone(got.ContainerDefinitions), app)
			compare(t, &got, want)

			var environment []types.KeyValuePair
			output("environment", &environment)
			stack, err := deployed(v.cloudFormation)
			if err != nil {
				t.Fatal(err)
			}
			for _, variable := range environment {
				if want := variableOf(t, stack, *variable.Name); *variable.Value != want {
					t.Errorf("%s=%s, and in CloudFormation %q", *variable.Name, *variable.Value, want)
				}
			}
		})
	}
}

// variableOf returns a variable of the application of the CloudFormation template.
func variableOf(t *testing.T, stack *template, name string) string {
	t.Helper()
	return variable(containerNamed(stack.task(t), "app"), name)
}

// ctyOf returns values in the types of Terraform.
func ctyOf(t *testing.T, values map[string]any) map[string]cty.Value {
	t.Helper()
	result := map[string]cty.Value{}
	for name, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := ctyjson.ImpliedType(text)
		if err != nil {
			t.Fatal(err)
		}
		if result[name], err = ctyjson.Unmarshal(text, kind); err != nil {
			t.Fatal(err)
		}
	}
	return result
}
