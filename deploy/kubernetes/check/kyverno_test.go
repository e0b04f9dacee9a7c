package check

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// The policies of ../kyverno have the expressions of ../inject. TestKyverno evaluates them.
func TestInjectKyvernoIsCurrent(t *testing.T) {
	for _, name := range []string{"mutating-policy.yaml", "validating-policy.yaml"} {
		want, err := kyvernoPolicies(name)
		if err != nil {
			t.Fatal(err)
		}
		file := "../kyverno/" + name
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date (%v): run go test -run TestInject -update", file, err)
		}
	}
}

// TestKyverno evaluates the policies of ../kyverno with Kyverno's own command, whose path is in
// KYVERNO, for the pods of TestInject.
func TestKyverno(t *testing.T) {
	if os.Getenv("KYVERNO") == "" {
		t.Skip("KYVERNO is not set: make kyverno builds it")
	}
	cluster := kyvernoCluster{T: t, pods: map[string]*core.Pod{}}
	enabled := map[string]string{"iamproxy.github.io/inject": "enabled"}
	for name, test := range injections {
		pod := application(t)
		if test.pod != nil {
			test.pod(pod)
		}
		cluster.add(name, enabled, test.config, pod)
	}
	labeled := application(t)
	meta.SetMetaDataLabel(&labeled.ObjectMeta, "iamproxy.github.io/inject", "enabled")
	disabled := application(t)
	meta.SetMetaDataLabel(&disabled.ObjectMeta, "iamproxy.github.io/inject", "disabled")
	for name, pod := range map[string]*core.Pod{"other": application(t), "labeled pod": labeled} {
		cluster.add(name, nil, endpoints, pod)
	}
	cluster.add("disabled pod", enabled, endpoints, disabled)

	messages := cluster.admit()
	for name, test := range injections {
		pod, message := cluster.pods[slug(name)], messages[slug(name)]
		switch {
		case test.reject == "" && message != "" || !strings.Contains(message, test.reject):
			t.Errorf("%s: rejected with %q, want %q in it", name, message, test.reject)
		case test.check != nil && !test.check(pod):
			t.Errorf("%s: the pod is %s", name, toYAML(t, pod))
		}
	}
	for name, want := range map[string]bool{"other": false, "labeled pod": true, "disabled pod": false} {
		if got := isInjected(cluster.pods[slug(name)]); got != want || messages[slug(name)] != "" {
			t.Errorf("%s: injected: %v, rejected with %q", name, got, messages[slug(name)])
		}
	}
	got := cluster.pods[slug("pod of an unchanged Deployment")].Spec.InitContainers[0]
	if want := sidecarContainer(t); !equality.Semantic.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// slug returns the namespace of a case.
func slug(name string) string {
	return strings.ToLower(strings.NewReplacer(" ", "-", "'", "").Replace(name))
}

// kyvernoCluster holds what the command takes for the objects of a cluster. Each case has a
// namespace.
type kyvernoCluster struct {
	*testing.T
	pods       map[string]*core.Pod // by namespace
	objects    []any
	namespaces []any
}

func (k *kyvernoCluster) add(name string, labels, config map[string]string, pod *core.Pod) {
	pod.Namespace = slug(name)
	k.pods[pod.Namespace] = pod
	all := map[string]string{"kubernetes.io/metadata.name": pod.Namespace}
	for key, value := range labels {
		all[key] = value
	}
	k.namespaces = append(k.namespaces, map[string]any{"name": pod.Namespace, "labels": all})
	k.objects = append(k.objects, &core.Namespace{
		TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta.ObjectMeta{Name: pod.Namespace, Labels: all},
	})
	if config != nil {
		k.objects = append(k.objects, &core.ConfigMap{
			TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta.ObjectMeta{Name: "iamproxy-inject", Namespace: pod.Namespace}, Data: config,
		})
	}
}

// admit changes the pods as the policies do, and returns why pods are rejected.
func (k *kyvernoCluster) admit() map[string]string {
	k.Helper()
	changed := filepath.Join(k.TempDir(), "pods.yaml")
	k.apply("mutating-policy.yaml", "--output", changed)
	text, err := os.ReadFile(changed)
	if err != nil {
		k.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var pod core.Pod
		if err := yaml.UnmarshalStrict([]byte(document), &pod); err != nil {
			k.Fatalf("%v: %s", err, document)
		}
		if pod.Namespace != "" {
			k.pods[pod.Namespace] = &pod
		}
	}
	var report struct {
		Results []struct {
			Result, Message string
			Resources       []struct{ Namespace string }
		}
	}
	if err := json.Unmarshal(k.apply("validating-policy.yaml", "--policy-report", "--output-format", "json"), &report); err != nil {
		k.Fatal(err)
	}
	messages := map[string]string{}
	for _, result := range report.Results {
		if result.Result == "fail" || result.Result == "error" {
			messages[result.Resources[0].Namespace] = result.Message
		}
	}
	return messages
}

// apply returns what `kyverno apply` prints for a policy and all pods.
func (k *kyvernoCluster) apply(policy string, options ...string) []byte {
	k.Helper()
	dir := k.TempDir()
	write := func(name string, objects ...any) string {
		file, texts := filepath.Join(dir, name), make([]string, 0, len(objects))
		for _, object := range objects {
			texts = append(texts, toYAML(k.T, object))
		}
		if err := os.WriteFile(file, []byte(strings.Join(texts, "---\n")), 0o600); err != nil {
			k.Fatal(err)
		}
		return file
	}
	pods := make([]any, 0, len(k.pods))
	for _, pod := range k.pods {
		pods = append(pods, pod)
	}
	input := func(kind string, fields map[string]any) map[string]any {
		fields["apiVersion"], fields["kind"], fields["metadata"] = "cli.kyverno.io/v1alpha1", kind, map[string]any{"name": "test"}
		return fields
	}
	args := append([]string{
		"apply", "../kyverno/" + policy, "--resource", write("pods.yaml", pods...),
		"--context-file", write("context.yaml", input("Context", map[string]any{"spec": map[string]any{"resources": k.objects}})),
		"--values-file", write("values.yaml", input("Values", map[string]any{"namespaceSelector": k.namespaces})),
	}, options...)
	cmd := exec.CommandContext(k.Context(), os.Getenv("KYVERNO"), args...)
	var output, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &log
	// A rejected pod is exit code 1. Other errors leave no report.
	if err := cmd.Run(); err != nil && output.Len() == 0 {
		k.Fatalf("%v: %s", err, &log)
	}
	return output.Bytes()
}
