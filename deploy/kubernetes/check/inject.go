package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

// injection holds the values of testdata/mutating-policy.yaml.tmpl.
type injection struct {
	Image, Version      string // of the sidecar
	AdminPort           int32
	Defaults, Container string   // as CEL
	Labels              []label  // of a pod with the sidecar
	Variables           []string // of iamproxy run
}

type label struct{ Key, Value string }

// newInjection returns what ../sidecar and the reference contain.
func newInjection() (injection, error) {
	objects, err := build("../sidecar")
	if err != nil {
		return injection{}, err
	}
	reference, err := os.ReadFile("../../../docs/reference.md")
	if err != nil {
		return injection{}, err
	}
	template := named[*apps.Deployment](objects, "app").Spec.Template
	sidecar := template.Spec.InitContainers[0]
	env, err := environment(sidecar, objects)
	if err != nil {
		return injection{}, err
	}
	delete(env, "IAMPROXY_ENDPOINTS")
	container, err := containerCEL(sidecar)
	if err != nil {
		return injection{}, err
	}
	_, version, _ := strings.Cut(sidecar.Image, ":")
	found := injection{
		Image: sidecar.Image, Version: version, AdminPort: sidecar.Ports[0].ContainerPort,
		Defaults: toCEL(env, "        "), Container: container, Variables: variables(string(reference)),
	}
	for _, key := range slices.Sorted(maps.Keys(template.Labels)) {
		if strings.HasPrefix(key, "iamproxy") {
			found.Labels = append(found.Labels, label{key, template.Labels[key]})
		}
	}
	return found, nil
}

// policy returns ../inject/mutating-policy.yaml.
func (i injection) policy() ([]byte, error) {
	parsed, err := template.ParseFiles("testdata/mutating-policy.yaml.tmpl")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = parsed.Option("missingkey=error").Execute(&text, i)
	return text.Bytes(), err
}

// expression is CEL that replaces a value of the sidecar.
type expression string

// containerCEL returns a CEL object with the fields of the container, except what the policy
// takes from the ConfigMap and the annotations.
func containerCEL(c core.Container) (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return "", err
	}
	if len(c.Ports) != 1 || len(c.Env) != 0 || len(c.EnvFrom) != 1 {
		return "", errors.New("the sidecar has other ports or variables")
	}
	fields["image"] = expression("variables.image")
	fields["ports"].([]any)[0].(map[string]any)["containerPort"] = expression("variables.adminPort")
	delete(fields, "envFrom")
	// validating-policy.yaml refuses variables with the prefix.
	fields["env"] = expression(`variables.names.filter(k, !(k in ['image', 'environment']) || k in variables.unknown)
      .map(k, Object.spec.initContainers.env{
        name: k in variables.unknown ? 'iamproxy.github.io/' + k : k,
        value: variables.settings[k]
      })`)
	return object("Object.spec.initContainers", fields, "              "), nil
}

// mapFields lists the fields whose keys are not fields of a type.
var mapFields = []string{"requests", "limits"}

// object returns a CEL object of a type.
func object(kind string, fields map[string]any, indent string) string {
	var text strings.Builder
	text.WriteString(kind + "{\n")
	for i, name := range slices.Sorted(maps.Keys(fields)) {
		if i > 0 {
			text.WriteString(",\n")
		}
		fmt.Fprintf(&text, "%s  %s: %s", indent, name, value(kind+"."+name, name, fields[name], indent+"  "))
	}
	text.WriteString("\n" + indent + "}")
	return text.String()
}

func value(kind, name string, of any, indent string) string {
	switch v := of.(type) {
	case expression:
		return strings.ReplaceAll(string(v), "\n    ", "\n"+indent)
	case map[string]any:
		if slices.Contains(mapFields, name) {
			texts := map[string]string{}
			for key, text := range v {
				texts[key] = text.(string)
			}
			return toCEL(texts, indent)
		}
		return object(kind, v, indent)
	case []any:
		items := make([]string, 0, len(v))
		for _, item := range v {
			items = append(items, value(kind, name, item, indent))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case string:
		return quote(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// toCEL returns a CEL map.
func toCEL(of map[string]string, indent string) string {
	items := make([]string, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		items = append(items, quote(key)+": "+quote(of[key]))
	}
	if indent == "" || len(items) < 3 {
		return "{" + strings.Join(items, ", ") + "}"
	}
	return "{\n" + indent + "  " + strings.Join(items, ",\n"+indent+"  ") + "\n" + indent + "}"
}

func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

var flagRow = regexp.MustCompile("(?m)^\\| `--([a-z-]+)")

// variables returns the variables of `iamproxy run`, as docs/reference.md describes them.
func variables(reference string) []string {
	_, section, _ := strings.Cut(reference, "\n## iamproxy run\n")
	section, _, _ = strings.Cut(section, "\n## ")
	names := []string{"IAMPROXY_ENDPOINTS"}
	for _, flag := range flagRow.FindAllStringSubmatch(section, -1) {
		names = append(names, "IAMPROXY_"+strings.ToUpper(strings.ReplaceAll(flag[1], "-", "_")))
	}
	slices.Sort(names)
	return names
}
