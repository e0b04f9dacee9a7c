//go:build linux

package check

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/iamproxy/iamproxy/deploy/kubernetes/check/apiserver"
	"github.com/iamproxy/iamproxy/test/conntest"
)

// server is the API server that the tests of this file share, and its test.
type server struct {
	*testing.T
	*apiserver.Server
}

// TestAPIServer applies everything to the real API server, whose path is in KUBE_APISERVER.
func TestAPIServer(t *testing.T) {
	binary := os.Getenv("KUBE_APISERVER")
	if binary == "" {
		t.Skip("KUBE_APISERVER is not set: make kubernetes builds it")
	}
	started, err := apiserver.Start(t.Context(), binary, t.TempDir(), conntest.FreePorts(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := started.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct {
		name string
		run  func(server)
	}{
		{"custom resources", server.installCustomResources},
		{"manifests", server.applyManifests},
		{"injection", server.injects},
		{"labels", server.selects},
		{"container", server.sameContainer},
		{"database", server.connects},
		{"updates", server.updates},
		{"limits", server.defaultLimits},
		{"upgrade", server.upgrades},
		{"rights", server.needsRights},
		{"cost", server.cost},
		{"failure", server.failsAlone},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(server{t, started}) })
	}
}

// must fails the test at an error.
func (s server) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// object returns the object that a text in YAML describes.
func (s server) object(text string) *unstructured.Unstructured {
	s.Helper()
	object := &unstructured.Unstructured{}
	s.must(yaml.UnmarshalStrict([]byte(text), &object.Object))
	return object
}

// objects returns what kubectl applies from a directory.
func (s server) objects(directory string) (objects []*unstructured.Unstructured) {
	s.Helper()
	built, err := resources(directory)
	s.must(err)
	for _, resource := range built {
		text, err := resource.AsYAML()
		s.must(err)
		objects = append(objects, s.object(string(text)))
	}
	return objects
}

// pod returns a pod that exists.
func (s server) pod(namespace, name string) *core.Pod {
	s.Helper()
	body, err := s.Do(s.Context(), apiserver.Request{Path: "/api/v1/namespaces/" + namespace + "/pods/" + name})
	s.must(err)
	pod := &core.Pod{}
	s.must(json.Unmarshal(body, pod))
	return pod
}

// until waits for a condition.
func (s server) until(condition func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	defer cancel()
	s.must(apiserver.Until(ctx, condition))
}

// namespace creates a namespace that enforces "restricted", with the ServiceAccounts that pods
// use. config is the ConfigMap of the injection, or nil.
func (s server) namespace(name string, labels map[string]string, config map[string]string) {
	s.Helper()
	namespace := s.object(`{apiVersion: v1, kind: Namespace, metadata: {labels: {pod-security.kubernetes.io/enforce: restricted}}}`)
	namespace.SetName(name)
	all := namespace.GetLabels()
	for key, value := range labels {
		all[key] = value
	}
	namespace.SetLabels(all)
	s.must(s.Apply(s.Context(), namespace, "", apiserver.Admin))
	// Without the controller manager, there is no account "default".
	for _, account := range []string{"default", "app"} {
		s.must(s.Apply(s.Context(), s.object("{apiVersion: v1, kind: ServiceAccount, automountServiceAccountToken: false, metadata: {name: "+account+"}}"), name, apiserver.Admin))
	}
	if config != nil {
		object := s.object("{apiVersion: v1, kind: ConfigMap, metadata: {name: iamproxy-inject}}")
		s.must(unstructured.SetNestedStringMap(object.Object, config, "data"))
		s.must(s.Apply(s.Context(), object, name, apiserver.Admin))
	}
}

// installCustomResources installs the CustomResourceDefinitions of cert-manager and Kyverno, and of
// the Prometheus Operator, which is generated from its types as the operator does.
func (s server) installCustomResources() {
	list, err := exec.CommandContext(s.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager", "github.com/kyverno/api").Output()
	s.must(err)
	directories := strings.Fields(string(list))
	generated := s.TempDir()
	generate := exec.CommandContext(s.Context(), "go", "run", "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0", "crd",
		"paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1", "output:crd:dir="+generated)
	output, err := generate.CombinedOutput()
	if err != nil {
		s.Fatalf("%v: %s", err, output)
	}
	for _, file := range []string{
		filepath.Join(directories[0], "deploy/crds/cert-manager.io_certificates.yaml"),
		filepath.Join(directories[1], "config/crds/policies.kyverno.io_mutatingpolicies.yaml"),
		filepath.Join(directories[1], "config/crds/policies.kyverno.io_validatingpolicies.yaml"),
		filepath.Join(generated, "monitoring.coreos.com_podmonitors.yaml"),
	} {
		text, err := os.ReadFile(file)
		s.must(err)
		definition := s.object(string(text))
		s.must(s.Apply(s.Context(), definition, "", apiserver.Admin))
		s.until(func() error { return s.served(definition) })
	}
}

// served returns an error until the API server serves a CustomResourceDefinition.
func (s server) served(definition *unstructured.Unstructured) error {
	body, err := s.Do(s.Context(), apiserver.Request{Path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + definition.GetName()})
	if err != nil {
		return err
	}
	var got struct {
		Status struct{ Conditions []meta.Condition }
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return err
	}
	for _, condition := range got.Status.Conditions {
		if condition.Type == "Established" && condition.Status == meta.ConditionTrue {
			return nil
		}
	}
	return errors.New("not established: " + definition.GetName())
}

// applyManifests applies each kustomization and chart in its own namespace, and creates a pod of
// each template as the controllers do.
func (s server) applyManifests() {
	applied := 0
	for name, kustomization := range kustomizations {
		directory := tree(s.T, kustomization)
		objects, err := build(directory)
		s.must(err)
		s.applyAll("manifests-"+name, s.objects(directory), objects)
		applied += len(objects)
	}
	for name, values := range chartCases {
		texts, _, err := renderTexts("v1.37.2", shared, chartValues(s.T, values))
		s.must(err)
		var written []*unstructured.Unstructured
		var objects []runtime.Object
		for _, text := range texts {
			written = append(written, s.object(text))
			object, err := decode([]byte(text))
			s.must(err)
			objects = append(objects, object)
		}
		s.applyAll("chart-"+strings.ReplaceAll(name, " ", "-"), written, objects)
		applied += len(objects)
	}
	for _, engine := range []string{"kubernetes", "kyverno"} {
		texts, _, err := renderTexts("v1.37.2", inject, map[string]any{"engine": engine})
		s.must(err)
		for _, text := range texts {
			if err := s.Apply(s.Context(), s.object(text), "", apiserver.Admin); err != nil {
				s.Errorf("%s: %v", engine, err)
			}
			applied++
		}
	}
	s.Logf("applied %d objects of %d kustomizations and %d renderings of charts", applied, len(kustomizations), len(chartCases)+2)

	err := s.Apply(s.Context(), s.object(`{apiVersion: v1, kind: ConfigMap, metadata: {name: wrong}, dta: {a: b}}`), "default", apiserver.Admin)
	if err == nil || !strings.Contains(err.Error(), "field not declared in schema") {
		s.Errorf("an unknown field is accepted: %v", err)
	}
}

// applyAll applies objects as they are written in a new namespace, and creates the pods of the
// decoded objects.
func (s server) applyAll(namespace string, written []*unstructured.Unstructured, objects []runtime.Object) {
	s.namespace(namespace, nil, nil)
	for _, object := range written {
		if err := s.Apply(s.Context(), object, namespace, apiserver.Admin); err != nil {
			s.Errorf("%s: %s %s: %v", namespace, object.GetKind(), object.GetName(), err)
		}
	}
	for _, p := range pods(objects) {
		pod := &core.Pod{ObjectMeta: p.template.ObjectMeta, Spec: p.template.Spec}
		pod.Name = "pod"
		if strings.HasPrefix(p.of, "Job ") {
			pod.Name = "job"
		}
		// The cluster has no such PriorityClass.
		pod.Spec.PriorityClassName = ""
		if _, err := s.CreatePod(s.Context(), namespace, pod, false); err != nil {
			s.Errorf("%s: %s: %v", namespace, p.of, err)
		}
	}
}
