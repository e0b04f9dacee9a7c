package check

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// template is a CloudFormation template with values for its parameters.
type template struct {
	parameters map[string]any
	conditions map[string]yaml.Node
	resources  map[string]yaml.Node
}

// references has the values of pseudo parameters, and the names that AWS gives to resources.
var references = map[string]any{
	"AWS::AccountId": "111122223333",
	"AWS::NoValue":   noValue{},
	"AWS::Partition": "aws",
	"AWS::Region":    "eu-west-1",
	"AWS::StackName": "app",
	"LogGroup":       "/ecs/app",
}

// noValue is a property that the template leaves out.
type noValue struct{}

// parseTemplate reads a template. The values must be allowed by the parameters and by the rules.
func parseTemplate(text []byte, values map[string]string) (*template, error) {
	var file struct {
		Version     string               `yaml:"AWSTemplateFormatVersion"`
		Description string               `yaml:"Description"`
		Parameters  map[string]parameter `yaml:"Parameters"`
		Rules       map[string]rule      `yaml:"Rules"`
		Conditions  map[string]yaml.Node `yaml:"Conditions"`
		Resources   map[string]yaml.Node `yaml:"Resources"`
		Outputs     map[string]yaml.Node `yaml:"Outputs"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, err
	}
	for name := range values {
		if _, ok := file.Parameters[name]; !ok {
			return nil, fmt.Errorf("no parameter %s", name)
		}
	}
	t := &template{parameters: map[string]any{}, conditions: file.Conditions, resources: file.Resources}
	for name, p := range file.Parameters {
		value, given := values[name]
		if !given && p.Default == nil {
			return nil, fmt.Errorf("%s is required", name)
		} else if !given {
			value = *p.Default
		}
		var err error
		if t.parameters[name], err = p.parse(value); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, rule := range file.Rules {
		for _, assertion := range rule.Assertions {
			applies, err := t.eval(&rule.Condition)
			holds, err2 := t.eval(&assertion.Assert)
			if err := errors.Join(err, err2); err != nil {
				return nil, err
			}
			if applies == true && holds != true {
				return nil, errors.New(assertion.Description)
			}
		}
	}
	return t, nil
}

type parameter struct {
	Type                  string   `yaml:"Type"`
	Description           string   `yaml:"Description"`
	Default               *string  `yaml:"Default"`
	AllowedPattern        string   `yaml:"AllowedPattern"`
	AllowedValues         []string `yaml:"AllowedValues"`
	MinValue              *int     `yaml:"MinValue"`
	MaxValue              *int     `yaml:"MaxValue"`
	ConstraintDescription string   `yaml:"ConstraintDescription"`
}

type rule struct {
	Condition  yaml.Node `yaml:"RuleCondition"`
	Assertions []struct {
		Assert      yaml.Node `yaml:"Assert"`
		Description string    `yaml:"AssertDescription"`
	} `yaml:"Assertions"`
}

// parse returns the value that a reference to the parameter has.
func (p parameter) parse(value string) (any, error) {
	if p.AllowedPattern != "" && !regexp.MustCompile(`^(?:`+p.AllowedPattern+`)$`).MatchString(value) ||
		p.AllowedValues != nil && !slices.Contains(p.AllowedValues, value) {
		return nil, fmt.Errorf("%q is not allowed: %s", value, p.ConstraintDescription)
	}
	switch {
	case p.Type == "Number":
		n, err := strconv.Atoi(value)
		if err == nil && (p.MinValue != nil && n < *p.MinValue || p.MaxValue != nil && n > *p.MaxValue) {
			err = fmt.Errorf("%d is out of range", n)
		}
		return n, err
	case strings.HasPrefix(p.Type, "List<"):
		var list []any
		for item := range strings.SplitSeq(value, ",") {
			list = append(list, item)
		}
		return list, nil
	}
	return value, nil
}

// properties returns the properties of a resource.
func (t *template) properties(name string) (map[string]any, error) {
	node, ok := t.resources[name]
	if !ok {
		return nil, fmt.Errorf("no resource %s", name)
	}
	resource, err := t.eval(&node)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	properties, _ := resource.(map[string]any)["Properties"].(map[string]any)
	return properties, nil
}

// has reports whether a resource is created.
func (t *template) has(name string) (bool, error) {
	var resource struct {
		Condition string `yaml:"Condition"`
	}
	node := t.resources[name]
	if err := node.Decode(&resource); err != nil {
		return false, err
	}
	if resource.Condition == "" {
		return true, nil
	}
	return t.condition(resource.Condition)
}

func (t *template) condition(name string) (bool, error) {
	node, ok := t.conditions[name]
	if !ok {
		return false, fmt.Errorf("no condition %s", name)
	}
	value, err := t.eval(&node)
	holds, _ := value.(bool)
	return holds, err
}

func (t *template) reference(name string) (any, error) {
	if value, ok := t.parameters[name]; ok {
		return value, nil
	}
	if value, ok := references[name]; ok {
		return value, nil
	}
	if _, ok := t.resources[name]; ok {
		return name, nil
	}
	return nil, fmt.Errorf("no parameter or resource %s", name)
}

// eval returns the value of a node after the deployment.
func (t *template) eval(node *yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.AliasNode:
		return nil, fmt.Errorf("line %d: CloudFormation has no aliases", node.Line)
	case yaml.MappingNode:
		result := map[string]any{}
		for i := 0; i < len(node.Content); i += 2 {
			value, err := t.eval(node.Content[i+1])
			if err != nil {
				return nil, err
			}
			if value != any(noValue{}) {
				result[node.Content[i].Value] = value
			}
		}
		return result, nil
	case yaml.SequenceNode:
		return t.evalList(node)
	}
	switch node.Tag {
	case "!Ref":
		return t.reference(node.Value)
	case "!GetAtt":
		resource, attribute, _ := strings.Cut(node.Value, ".")
		if _, ok := t.resources[resource]; !ok || attribute != "Arn" {
			return nil, fmt.Errorf("line %d: no %s", node.Line, node.Value)
		}
		return arnOf(resource), nil
	case "!Sub":
		var err error
		text := regexp.MustCompile(`\$\{([^}]+)\}`).ReplaceAllStringFunc(node.Value, func(name string) string {
			value, missing := t.reference(name[2 : len(name)-1])
			err = errors.Join(err, missing)
			return fmt.Sprint(value)
		})
		return text, err
	case "!!str", "!!int", "!!bool":
		var value any
		err := node.Decode(&value)
		return value, err
	}
	return nil, fmt.Errorf("line %d: unknown %s", node.Line, node.Tag)
}

// arnOf returns the ARN of a role.
func arnOf(role string) string { return "arn:aws:iam::111122223333:role/" + role }

// evalList returns a list, or the result of a function that has a list of arguments.
func (t *template) evalList(node *yaml.Node) (any, error) {
	if node.Tag == "!If" {
		holds, err := t.condition(node.Content[0].Value)
		if err != nil {
			return nil, err
		}
		if holds {
			return t.eval(node.Content[1])
		}
		return t.eval(node.Content[2])
	}
	list := []any{}
	for _, part := range node.Content {
		value, err := t.eval(part)
		if err != nil {
			return nil, err
		}
		if value != any(noValue{}) {
			list = append(list, value)
		}
	}
	switch node.Tag {
	case "!Equals":
		return fmt.Sprint(list[0]) == fmt.Sprint(list[1]), nil
	case "!Not":
		return list[0] != true, nil
	case "!And":
		return !slices.Contains(list, any(false)), nil
	case "!!seq":
		return list, nil
	}
	return nil, fmt.Errorf("line %d: unknown %s", node.Line, node.Tag)
}

// api returns properties in the form of the API: its names begin with a small letter. The keys of
// free maps stay as they are.
func api(value any) any {
	switch value := value.(type) {
	case map[string]any:
		result := map[string]any{}
		for name, field := range value {
			if name != "Options" && name != "DriverOpts" {
				field = api(field)
			}
			result[strings.ToLower(name[:1])+name[1:]] = field
		}
		return result
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = api(item)
		}
		return list
	}
	return value
}
