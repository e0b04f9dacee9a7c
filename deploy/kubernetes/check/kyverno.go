package check

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/template"

	registration "k8s.io/api/admissionregistration/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// kyverno holds the values of testdata/kyverno-policy.yaml.tmpl.
type kyverno struct {
	Kind     string
	Bindings []kyvernoBinding
	Body     string // match conditions and everything after them
}

// kyvernoBinding holds the name and the selectors of a binding.
type kyvernoBinding struct {
	Name                string
	Namespaces, Objects string // lists of requirements, as YAML
}

// kyvernoPolicies returns ../kyverno/NAME, which has the expressions of ../inject/NAME. Kyverno's
// kinds have the fields of those of Kubernetes, except for bindings and their parameters.
func kyvernoPolicies(name string) ([]byte, error) {
	text, err := os.ReadFile("../inject/" + name)
	if err != nil {
		return nil, err
	}
	objects, err := build("../inject")
	if err != nil {
		return nil, err
	}
	_, body, ok := strings.Cut(string(text), "\n  matchConditions:\n")
	if !ok {
		return nil, fmt.Errorf("%s has no match conditions", name)
	}
	const params = "params.?data.orValue({})"
	values := kyverno{Kind: "ValidatingPolicy"}
	var system *meta.LabelSelector // the policy's own selector
	for _, object := range objects {
		switch o := object.(type) {
		case *registration.MutatingAdmissionPolicy:
			if name == "mutating-policy.yaml" {
				values.Kind, system = "MutatingPolicy", o.Spec.MatchConstraints.NamespaceSelector
				if strings.Count(body, "params") != strings.Count(body, params) {
					return nil, fmt.Errorf("%s uses parameters otherwise than %s", name, params)
				}
			}
		case *registration.ValidatingAdmissionPolicy:
			if name == "validating-policy.yaml" {
				system = o.Spec.MatchConstraints.NamespaceSelector
			}
		}
	}
	values.Body = strings.TrimRight(strings.ReplaceAll(body, params, "dyn(resource.Get('v1', 'configmaps', object.metadata.namespace, 'iamproxy-inject')).?data.orValue({})"), "\n")
	for _, object := range objects {
		binding, ok := object.(*registration.ValidatingAdmissionPolicyBinding) // the other kind has the same ones
		if !ok {
			continue
		}
		matches := binding.Spec.MatchResources
		namespaces, err := requirements(slices.Concat(system.MatchExpressions, matches.NamespaceSelector.MatchExpressions))
		if err != nil {
			return nil, err
		}
		pods, err := requirements(matches.ObjectSelector.MatchExpressions)
		if err != nil {
			return nil, err
		}
		values.Bindings = append(values.Bindings, kyvernoBinding{binding.Name, namespaces, pods})
	}
	parsed, err := template.ParseFiles("testdata/kyverno-policy.yaml.tmpl")
	if err != nil {
		return nil, err
	}
	var policies bytes.Buffer
	err = parsed.Execute(&policies, values)
	return policies.Bytes(), err
}

// requirements returns requirements of a selector as YAML.
func requirements(of []meta.LabelSelectorRequirement) (string, error) {
	text, err := yaml.Marshal(of)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return "        " + strings.Join(lines, "\n        "), nil
}
