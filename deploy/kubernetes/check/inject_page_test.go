package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	registration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// injectBase is the remote base on the page, which the tests replace.
const injectBase = "https://github.com/iamproxy/iamproxy//deploy/kubernetes/inject?ref=v1.2.3"

// withImage returns a directory with the kustomization of the page for another image.
func withImage(t *testing.T, image string) string {
	t.Helper()
	text := theBlock(t, injectPage, "kind: MutatingAdmissionPolicy")
	const onPage = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3"
	if !strings.Contains(text, injectBase) || !strings.Contains(text, onPage) {
		t.Fatalf("%s has another base or image", injectPage)
	}
	return tree(t, strings.NewReplacer(injectBase, "inject", onPage, image).Replace(text))
}

var literal = regexp.MustCompile(`--from-literal=(\S+?)=(\S+)`)

// The commands, the pod template and the kustomization of the page do what it describes.
func TestInjectPage(t *testing.T) {
	label := blocks(t, injectPage, "sh", "kubectl label namespace app iamproxy.github.io/inject=enabled\n")
	if len(label) != 1 {
		t.Fatalf("%d blocks label the namespace", len(label))
	}
	config := map[string]string{}
	for _, match := range literal.FindAllStringSubmatch(label[0], -1) {
		config[match[1]] = strings.ReplaceAll(match[2], "$ENDPOINT", endpoints["IAMPROXY_ENDPOINTS"])
	}
	overlay := named[*core.ConfigMap](mustBuild(t, "../overlays/inject"), "iamproxy-inject")
	for key, value := range overlay.Data {
		if config[key] != value {
			t.Errorf("%s is %q on the page and %q in overlays/inject", key, config[key], value)
		}
	}

	admit := newAdmit(t, tree(t, "resources: [inject]"))
	pod := application(t)
	pod.Spec.Containers[0].Env = nil
	got, message, err := admit(t.Context(), config, pod)
	if err != nil || message != "" || !isInjected(got) || variable(got.Spec.Containers[0], "PGHOST") != "localhost" || variable(got.Spec.Containers[0], "PGSSLMODE") != "disable" {
		t.Errorf("%v %q: %+v", err, message, got)
	}

	if err := yaml.UnmarshalStrict([]byte(theBlock(t, injectPage, "iamproxy.github.io/IAMPROXY_POOL")), pod); err != nil {
		t.Fatal(err)
	}
	got, message, err = admit(t.Context(), endpoints, pod)
	if err != nil || message != "" || variable(got.Spec.InitContainers[0], "IAMPROXY_POOL") != "5" || variable(got.Spec.Containers[0], "PGPORT") != "5432" {
		t.Errorf("%v %q: %+v", err, message, got)
	}

	const other = "registry.example/iamproxy:v1.2.3"
	got, message, err = newAdmit(t, withImage(t, other))(t.Context(), endpoints, application(t))
	if err != nil || message != "" || got.Spec.InitContainers[0].Image != other {
		t.Errorf("%v %q: %+v", err, message, got)
	}
}

var messageRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [A-Z]")

// The page explains each message of the policy, and states the defaults.
func TestInjectPageMessages(t *testing.T) {
	text, err := os.ReadFile(injectPage)
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, v := range named[*registration.ValidatingAdmissionPolicy](mustBuild(t, "../inject"), "iamproxy-inject").Spec.Validations {
		messages = append(messages, v.Message+v.MessageExpression)
	}
	rows := messageRow.FindAllStringSubmatch(string(text), -1)
	if len(rows) != len(messages) {
		t.Errorf("the page explains %d of %d messages", len(rows), len(messages))
	}
	for _, row := range rows {
		found := 0
		for _, message := range messages {
			if strings.Contains(message, row[1]) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d messages have %q", found, row[1])
		}
	}
	for _, v := range sidecarContainer(t).Env {
		if v.Name != "IAMPROXY_ENDPOINTS" && !strings.Contains(string(text), "`"+v.Name+"` is `"+v.Value+"`") {
			t.Errorf("%s lacks the default of %s, %s", filepath.Base(injectPage), v.Name, v.Value)
		}
	}
}
