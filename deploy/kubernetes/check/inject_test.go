package check

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	registration "k8s.io/api/admissionregistration/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/iamproxy/iamproxy/deploy/kubernetes/check/policy"
)

var update = flag.Bool("update", false, "write ../inject/mutating-policy.yaml")

// The policy contains the sidecar of ../sidecar.
func TestInjectIsCurrent(t *testing.T) {
	values, err := newInjection()
	if err != nil {
		t.Fatal(err)
	}
	want, err := values.policy()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../inject/mutating-policy.yaml"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is out of date (%v): run go test -run TestInject -update", file, err)
	}
}

// endpoints is the ConfigMap of a namespace with no other setting.
var endpoints = map[string]string{"IAMPROXY_ENDPOINTS": "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"}

// with adds settings to the endpoint.
func with(settings ...string) map[string]string {
	data := map[string]string{"IAMPROXY_ENDPOINTS": endpoints["IAMPROXY_ENDPOINTS"]}
	for i := 0; i < len(settings); i += 2 {
		data[settings[i]] = settings[i+1]
	}
	return data
}

// annotated sets an annotation of a pod.
func annotated(name, value string) func(*core.Pod) {
	return func(pod *core.Pod) {
		meta.SetMetaDataAnnotation(&pod.ObjectMeta, "iamproxy.github.io/"+name, value)
	}
}

// injections lists pods in a namespace with the label. Package policy evaluates them on each
// change, and the API server in TestAPIServer.
var injections = map[string]struct {
	config map[string]string // nil without a ConfigMap
	pod    func(*core.Pod)   // changes the pod
	check  func(*core.Pod) bool
	reject string // part of the message
}{
	"pod of an unchanged Deployment": {config: endpoints, check: func(pod *core.Pod) bool {
		return len(pod.Spec.InitContainers) == 1 && variable(pod.Spec.InitContainers[0], "IAMPROXY_ENDPOINTS") == endpoints["IAMPROXY_ENDPOINTS"]
	}},
	"init containers": {config: endpoints, pod: func(pod *core.Pod) {
		migrate := *pod.Spec.Containers[0].DeepCopy()
		migrate.Name = "migrate"
		proxy := *migrate.DeepCopy()
		always := core.ContainerRestartPolicyAlways
		proxy.Name, proxy.RestartPolicy = "log-agent", &always
		pod.Spec.InitContainers = []core.Container{proxy, migrate}
	}, check: func(pod *core.Pod) bool {
		return slices.EqualFunc(pod.Spec.InitContainers, []string{"iamproxy", "log-agent", "migrate"},
			func(c core.Container, name string) bool { return c.Name == name })
	}},
	"no labels and annotations": {config: endpoints, pod: func(pod *core.Pod) { pod.Labels, pod.Annotations = nil, nil }, check: isInjected},
	"pod of a Job":              {config: endpoints, pod: func(pod *core.Pod) { pod.Spec.RestartPolicy = core.RestartPolicyNever }, check: isInjected},
	"image of the ConfigMap": {config: with("image", "registry.example/iamproxy:v1.2.3"), check: func(pod *core.Pod) bool {
		return pod.Spec.InitContainers[0].Image == "registry.example/iamproxy:v1.2.3"
	}},
	"image of the pod": {config: with("image", "registry.example/iamproxy:v1.2.3"), pod: annotated("image", "registry.example/iamproxy:v1.2.4"), check: func(pod *core.Pod) bool {
		return pod.Spec.InitContainers[0].Image == "registry.example/iamproxy:v1.2.4" && variable(pod.Spec.InitContainers[0], "image") == ""
	}},
	"endpoint of the pod": {config: endpoints, pod: annotated("IAMPROXY_ENDPOINTS", "other.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"), check: func(pod *core.Pod) bool {
		return strings.HasPrefix(variable(pod.Spec.InitContainers[0], "IAMPROXY_ENDPOINTS"), "other.")
	}},
	"flag of the ConfigMap": {config: with("IAMPROXY_DRAIN_MAX", "9s", "AWS_REGION", "eu-west-1"), check: func(pod *core.Pod) bool {
		return variable(pod.Spec.InitContainers[0], "IAMPROXY_DRAIN_MAX") == "9s" && variable(pod.Spec.InitContainers[0], "AWS_REGION") == "eu-west-1"
	}},
	"flag of the pod": {config: with("IAMPROXY_DRAIN_MAX", "9s"), pod: annotated("IAMPROXY_DRAIN_MAX", "3s"), check: func(pod *core.Pod) bool {
		return variable(pod.Spec.InitContainers[0], "IAMPROXY_DRAIN_MAX") == "3s"
	}},
	"admin port": {config: with("IAMPROXY_ADMIN", "[::]:9190"), check: func(pod *core.Pod) bool {
		return pod.Spec.InitContainers[0].Ports[0].ContainerPort == 9190
	}},
	"flag of another release": {config: with("image", "ghcr.io/iamproxy/iamproxy:v2.0.0", "IAMPROXY_NEW", "1"), check: isInjected},

	"environment of the ConfigMap": {config: with("environment", "enabled"), pod: func(pod *core.Pod) {
		migrate := *pod.Spec.Containers[0].DeepCopy()
		migrate.Name, migrate.Env = "migrate", nil
		pod.Spec.InitContainers = []core.Container{migrate}
		pod.Spec.Containers[0].Env = []core.EnvVar{
			{Name: "PGSSLMODE", Value: "require"}, {Name: "URL", Value: "postgres://app@localhost:$(PGPORT)/mydb"},
			{Name: "PGPASSFILE", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		}
	}, check: func(pod *core.Pod) bool {
		app, migrate := pod.Spec.Containers[0], pod.Spec.InitContainers[1]
		return len(app.Env) == 5 && slices.Index(names(app), "PGPORT") < slices.Index(names(app), "URL") && variable(app, "PGHOST") == "localhost" && variable(app, "PGSSLMODE") == "require" && app.Env[4].ValueFrom.FieldRef.FieldPath == "metadata.name" &&
			variable(migrate, "PGHOST") == "localhost" && variable(migrate, "PGPORT") == "5432" && variable(migrate, "PGSSLMODE") == "disable"
	}},
	// PGSSLMODE=disable would turn TLS off to the other server.
	"environment with a server of the container": {config: with("environment", "enabled"), pod: func(pod *core.Pod) {
		migrate := *pod.Spec.Containers[0].DeepCopy()
		migrate.Name, migrate.Env = "migrate", []core.EnvVar{{Name: "PGHOST", Value: "db.example"}}
		pod.Spec.InitContainers = []core.Container{migrate}
		pod.Spec.Containers[0].Env = []core.EnvVar{{Name: "PGHOSTADDR", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.hostIP"}}}}
	}, check: func(pod *core.Pod) bool {
		return isInjected(pod) && len(pod.Spec.Containers[0].Env) == 1 && len(pod.Spec.InitContainers[1].Env) == 1
	}},
	"environment of the pod": {config: with("environment", "enabled"), pod: annotated("environment", "disabled"), check: func(pod *core.Pod) bool {
		return variable(pod.Spec.Containers[0], "PGPORT") == ""
	}},
	"environment with a port of the endpoint": {config: with("environment", "enabled", "IAMPROXY_LISTEN", "localhost:6432",
		"IAMPROXY_ENDPOINTS", endpoints["IAMPROXY_ENDPOINTS"]+"?pool=5&listen=localhost:6000,"+endpoints["IAMPROXY_ENDPOINTS"]+"?listen=localhost:6001\n"), check: func(pod *core.Pod) bool {
		return variable(pod.Spec.Containers[0], "PGPORT") == "6000"
	}},
	"environment with another port": {config: with("IAMPROXY_LISTEN", "127.0.0.1:6432"), pod: annotated("environment", "enabled"), check: func(pod *core.Pod) bool {
		return variable(pod.Spec.Containers[0], "PGPORT") == "6432"
	}},

	"pod with iamproxy": {config: endpoints, pod: func(pod *core.Pod) {
		iamproxy := *pod.Spec.Containers[0].DeepCopy()
		iamproxy.Name = "iamproxy"
		pod.Spec.InitContainers = []core.Container{iamproxy}
	}, check: func(pod *core.Pod) bool { return len(pod.Spec.InitContainers) == 1 && !isInjected(pod) }},
	"iamproxy as the application": {pod: func(pod *core.Pod) { pod.Spec.Containers[0].Name = "iamproxy" }, check: func(pod *core.Pod) bool {
		return len(pod.Spec.InitContainers) == 0
	}},

	"UDP port of the application": {config: endpoints, pod: func(pod *core.Pod) {
		pod.Spec.Containers[0].Ports = []core.ContainerPort{{ContainerPort: 9090, Protocol: core.ProtocolUDP}}
	}, check: isInjected},
	"pod for Windows": {config: endpoints, pod: func(pod *core.Pod) {
		pod.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"}
	}, check: func(pod *core.Pod) bool { return len(pod.Spec.InitContainers) == 0 }},
	"large pod": {config: with("environment", "enabled"), pod: func(pod *core.Pod) {
		for i := range 50 {
			c := *pod.Spec.Containers[0].DeepCopy()
			c.Name = fmt.Sprint("c-", i)
			for j := range 50 {
				c.Env = append(c.Env, core.EnvVar{Name: fmt.Sprint("V", j), Value: strings.Repeat("x", 200)})
			}
			pod.Spec.InitContainers, pod.Spec.Containers = append(pod.Spec.InitContainers, c), append(pod.Spec.Containers, c)
			pod.Spec.InitContainers[i].Name = fmt.Sprint("i-", i)
		}
		for i := range 100 {
			pod.Annotations = map[string]string{fmt.Sprint("example.com/", i): "x"}
		}
	}, check: isInjected},

	"no ConfigMap": {reject: ` has no ConfigMap "iamproxy-inject"; create it with the key IAMPROXY_ENDPOINTS`},
	"wrong label": {config: endpoints, pod: func(pod *core.Pod) {
		meta.SetMetaDataLabel(&pod.ObjectMeta, "iamproxy.github.io/inject", "true")
	}, reject: `the label iamproxy.github.io/inject is "true"; set it to "enabled" or "disabled"`},
	"no endpoint":           {config: map[string]string{}, reject: ` has no IAMPROXY_ENDPOINTS; set it to the endpoint of the database`},
	"empty endpoint":        {config: map[string]string{"IAMPROXY_ENDPOINTS": ""}, reject: ` has no IAMPROXY_ENDPOINTS; set it to the endpoint of the database`},
	"unknown key":           {config: with("endpoint", "x"), reject: `"endpoint" is not a setting of iamproxy; correct it in the ConfigMap "iamproxy-inject" of the namespace "`},
	"unknown annotation":    {config: endpoints, pod: annotated("pool", "5"), reject: `or in the annotation iamproxy.github.io/pool of the pod`},
	"misspelled key":        {config: with("IAMPROXY_DRIAN_MAX", "5s"), reject: `"IAMPROXY_DRIAN_MAX" is not a setting of iamproxy`},
	"misspelled annotation": {config: endpoints, pod: annotated("IAMPROXY_POOLS", "5"), reject: `or in the annotation iamproxy.github.io/IAMPROXY_POOLS of the pod`},
	"variable of a webhook": {config: endpoints, pod: func(pod *core.Pod) {
		iamproxy := *pod.Spec.Containers[0].DeepCopy()
		iamproxy.Name, iamproxy.Env = "iamproxy", []core.EnvVar{{Name: "IAMPROXY_ENDPOINTS", Value: "x"}, {Name: "DD_AGENT_HOST", Value: "x"}}
		pod.Spec.InitContainers = []core.Container{iamproxy}
		annotated("injected", "v1.2.3")(pod)
	}, check: isInjected},
	"wrong environment":        {config: endpoints, pod: annotated("environment", "true"), reject: `"environment" is neither "enabled" nor "disabled"`},
	"admin port on loopback":   {config: with("IAMPROXY_ADMIN", "127.0.0.1:9090"), reject: `the kubelet cannot send probes to IAMPROXY_ADMIN, which is "127.0.0.1:9090"; set it to 0.0.0.0:PORT`},
	"no admin port":            {config: endpoints, pod: annotated("IAMPROXY_ADMIN", "off"), reject: `which is "off"`},
	"multi-line admin address": {config: with("IAMPROXY_ADMIN", "0.0.0.0:9090\n"), reject: `which is "0.0.0.0:9090\n"; set it to 0.0.0.0:PORT`},
	"unix socket":              {config: with("IAMPROXY_LISTEN", "unix:/run/iamproxy"), reject: `the containers of the pod cannot use the unix socket of IAMPROXY_LISTEN; set it to localhost:PORT`},
	"unix socket of endpoint":  {config: with("IAMPROXY_ENDPOINTS", endpoints["IAMPROXY_ENDPOINTS"]+"?listen=unix:/tmp"), reject: `cannot use the unix socket of IAMPROXY_ENDPOINTS`},
	"port of an endpoint":      {config: with("IAMPROXY_ENDPOINTS", endpoints["IAMPROXY_ENDPOINTS"]+"?listen=localhost:8080&pool=5"), pod: func(pod *core.Pod) { pod.Spec.Containers[0].Ports = []core.ContainerPort{{ContainerPort: 8080}} }, reject: `a container of the pod uses the port 8080 of iamproxy`},
	"host network":             {config: endpoints, pod: func(pod *core.Pod) { pod.Spec.HostNetwork = true }, reject: `iamproxy is not injected into pods with hostNetwork`},
	"port of the application":  {config: endpoints, pod: func(pod *core.Pod) { pod.Spec.Containers[0].Ports = []core.ContainerPort{{ContainerPort: 9090}} }, reject: `a container of the pod uses the port 9090 of iamproxy`},
	"database in the pod":      {config: endpoints, pod: func(pod *core.Pod) { pod.Spec.Containers[0].Ports = []core.ContainerPort{{ContainerPort: 5432}} }, reject: `a container of the pod uses the port 5432 of iamproxy`},
}

func isInjected(pod *core.Pod) bool {
	return len(pod.Spec.InitContainers) > 0 && pod.Spec.InitContainers[0].Name == "iamproxy" && pod.Annotations["iamproxy.github.io/injected"] == "v1.2.3"
}

// variable returns the value of a variable of a container.
func variable(c core.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func names(c core.Container) (names []string) {
	for _, v := range c.Env {
		names = append(names, v.Name)
	}
	return names
}

// application returns a pod from ../sidecar without what makes it one with a sidecar.
func application(t *testing.T) *core.Pod {
	t.Helper()
	template := named[*apps.Deployment](mustBuild(t, "../sidecar"), "app").Spec.Template
	template.Spec.InitContainers = nil
	template.Spec.TerminationGracePeriodSeconds = nil
	return &core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta.ObjectMeta{Name: "app", Labels: map[string]string{"app.kubernetes.io/name": "app"}},
		Spec:       template.Spec,
	}
}

// sidecarContainer returns the container of ../sidecar, with the variables of its ConfigMap in its own
// list.
func sidecarContainer(t *testing.T) core.Container {
	t.Helper()
	objects := mustBuild(t, "../sidecar")
	c := named[*apps.Deployment](objects, "app").Spec.Template.Spec.InitContainers[0]
	env, err := environment(c, objects)
	if err != nil {
		t.Fatal(err)
	}
	c.EnvFrom = nil
	for name, value := range env {
		c.Env = append(c.Env, core.EnvVar{Name: name, Value: value})
	}
	slices.SortFunc(c.Env, func(a, b core.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// newAdmit compiles the policies of a directory with the language of Kubernetes 1.36. Its function
// returns the pod with their changes, and the message with which they reject it.
func newAdmit(t *testing.T, dir string) func(context.Context, map[string]string, *core.Pod) (*core.Pod, string, error) {
	t.Helper()
	objects := mustBuild(t, dir)
	mutating, err := policy.CompileMutating(named[*registration.MutatingAdmissionPolicy](objects, "iamproxy-inject"))
	if err != nil {
		t.Fatal(err)
	}
	validating, err := policy.CompileValidating(named[*registration.ValidatingAdmissionPolicy](objects, "iamproxy-inject"))
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, config map[string]string, pod *core.Pod) (*core.Pod, string, error) {
		r := policy.Request{Namespace: &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: "app", Labels: map[string]string{"iamproxy.github.io/inject": "enabled"}}}, Pod: pod}
		if config != nil {
			r.Config = &core.ConfigMap{Data: config}
		}
		if r.Pod, err = mutating.Mutate(ctx, r); err != nil {
			return nil, "", err
		}
		message, err := validating.Validate(ctx, r)
		return r.Pod, message, err
	}
}

// Each pod has the sidecar that its settings describe, or is refused with the reason.
func TestInject(t *testing.T) {
	admit := newAdmit(t, "../inject")
	for name, test := range injections {
		t.Run(name, func(t *testing.T) {
			pod := application(t)
			if test.pod != nil {
				test.pod(pod)
			}
			got, message, err := admit(t.Context(), test.config, pod)
			switch {
			case err != nil:
				t.Error(err)
			case test.reject == "" && message != "" || !strings.Contains(message, test.reject):
				t.Errorf("rejected with %q, want %q in it", message, test.reject)
			case test.check != nil && !test.check(got):
				t.Errorf("the pod is %+v", got)
			}
		})
	}
	t.Run("container", func(t *testing.T) {
		got, _, err := admit(t.Context(), endpoints, application(t))
		if err != nil {
			t.Fatal(err)
		}
		want := sidecarContainer(t)
		if !equality.Semantic.DeepEqual(got.Spec.InitContainers[0], want) {
			t.Errorf("got %+v, want %+v", got.Spec.InitContainers[0], want)
		}
		for key, value := range named[*apps.Deployment](mustBuild(t, "../sidecar"), "app").Spec.Template.Labels {
			if got.Labels[key] != value {
				t.Errorf("the label %s is %q", key, got.Labels[key])
			}
		}
		if err := try(t, got.Spec.InitContainers[0], nil, limit); err != nil {
			t.Error(err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		once, _, err := admit(t.Context(), endpoints, application(t))
		if err != nil {
			t.Fatal(err)
		}
		twice, message, err := admit(t.Context(), endpoints, once)
		if err != nil || message != "" || !reflect.DeepEqual(once, twice) {
			t.Errorf("%v %q: %+v", err, message, twice)
		}
	})
}

// A namespace or a pod enables the injection, a pod disables it, and no pod is injected twice.
func TestInjectBindings(t *testing.T) {
	var mutating, validating []*registration.MatchResources
	for _, object := range mustBuild(t, "../inject") {
		switch o := object.(type) {
		case *registration.MutatingAdmissionPolicyBinding:
			mutating = append(mutating, o.Spec.MatchResources)
		case *registration.ValidatingAdmissionPolicyBinding:
			validating = append(validating, o.Spec.MatchResources)
		}
	}
	if !reflect.DeepEqual(mutating, validating) {
		t.Error("the two policies match different pods")
	}
	for _, test := range []struct {
		namespace, pod string
		matches        int
	}{
		{"", "", 0}, {"", "enabled", 1}, {"", "disabled", 0}, {"", "true", 1},
		{"enabled", "", 1}, {"enabled", "enabled", 1}, {"enabled", "disabled", 0}, {"enabled", "true", 1},
		{"true", "", 1}, {"true", "disabled", 0}, {"true", "enabled", 2}, // all but "disabled" are refused
		{"disabled", "", 0}, {"disabled", "enabled", 1}, {"disabled", "disabled", 0},
	} {
		matches := 0
		for _, binding := range mutating {
			if selects(t, binding.NamespaceSelector, test.namespace) && selects(t, binding.ObjectSelector, test.pod) {
				matches++
			}
		}
		if matches != test.matches {
			t.Errorf("namespace %q, pod %q: %d bindings match", test.namespace, test.pod, matches)
		}
	}
}

// selects reports whether a selector matches an object whose label has this value, if any.
func selects(t *testing.T, by *meta.LabelSelector, value string) bool {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(by)
	if err != nil {
		t.Fatal(err)
	}
	set := labels.Set{}
	if value != "" {
		set["iamproxy.github.io/inject"] = value
	}
	return selector.Matches(set)
}
