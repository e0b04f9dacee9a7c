//go:build linux

package check

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/iamproxy/iamproxy/deploy/kubernetes/check/apiserver"
)

// enabled labels a namespace whose pods get iamproxy.
var enabled = map[string]string{"iamproxy.github.io/inject": "enabled"}

// policies waits until the API server evaluates the policies, which applyManifests has applied.
func (s server) policies() {
	s.Helper()
	s.namespace("without-config", enabled, nil)
	s.namespace("ready", enabled, endpoints)
	s.until(func() error {
		if _, err := s.CreatePod(s.Context(), "without-config", application(s.T), true); err == nil {
			return errors.New("a pod is admitted without a ConfigMap")
		}
		pod, err := s.CreatePod(s.Context(), "ready", application(s.T), true)
		if err == nil && !isInjected(pod) {
			err = errors.New("a pod is admitted without iamproxy")
		}
		return err
	})
}

// injects creates each pod of injections in its own namespace.
func (s server) injects() {
	s.policies()
	number := 0
	for name, test := range injections {
		number++
		namespace := fmt.Sprint("inject-", number)
		s.namespace(namespace, enabled, test.config)
		pod := application(s.T)
		if test.pod != nil {
			test.pod(pod)
		}
		if pod.Spec.HostNetwork { // "restricted" would refuse it
			s.privileged(namespace)
		}
		got, err := s.CreatePod(s.Context(), namespace, pod, false)
		switch {
		case test.reject != "" && (err == nil || !strings.Contains(err.Error(), test.reject) || !strings.HasPrefix(err.Error(), "4")):
			s.Errorf("%s: %v, want %q in it", name, err, test.reject)
		case test.reject != "":
			s.Logf("%s:\n\t%v", name, err)
		case err != nil:
			s.Errorf("%s: %v", name, err)
		case !test.check(got):
			s.Errorf("%s: the pod is %+v", name, got)
		}
	}
}

// privileged lets a namespace have pods of each kind.
func (s server) privileged(namespace string) {
	s.Helper()
	s.must(s.Apply(s.Context(), s.object(`{apiVersion: v1, kind: Namespace, metadata: {name: `+namespace+
		`, labels: {iamproxy.github.io/inject: enabled, pod-security.kubernetes.io/enforce: privileged}}}`), "", apiserver.Admin))
	s.until(func() error {
		pod := application(s.T)
		pod.Spec.HostNetwork = true
		pod.Labels = map[string]string{"iamproxy.github.io/inject": "disabled"}
		_, err := s.CreatePod(s.Context(), namespace, pod, true)
		return err
	})
}

// selects evaluates the selectors of the bindings.
func (s server) selects() {
	s.namespace("unlabeled", nil, endpoints)
	s.namespace("labeled", enabled, endpoints)
	s.namespace("kube-system", enabled, endpoints)
	s.namespace("mislabeled", map[string]string{"iamproxy.github.io/inject": "true"}, endpoints)
	for _, test := range []struct {
		namespace, label string
		injected         bool
	}{
		{"unlabeled", "", false}, {"unlabeled", "enabled", true}, {"unlabeled", "disabled", false},
		{"labeled", "", true}, {"labeled", "enabled", true}, {"labeled", "disabled", false},
		{"kube-system", "", false}, {"kube-system", "enabled", false},
	} {
		pod := application(s.T)
		if test.label != "" {
			pod.Labels["iamproxy.github.io/inject"] = test.label
		}
		got, err := s.CreatePod(s.Context(), test.namespace, pod, true)
		if err != nil || isInjected(got) != test.injected {
			s.Errorf("namespace %s, label %q: injected %v, %v", test.namespace, test.label, err == nil && isInjected(got), err)
		}
	}
	const reject = `the label iamproxy.github.io/inject of the namespace "mislabeled" is "true"; set it to "enabled" or "disabled"`
	if _, err := s.CreatePod(s.Context(), "mislabeled", application(s.T), true); err == nil || !strings.Contains(err.Error(), reject) {
		s.Errorf("namespace mislabeled: %v", err)
	}
}

// sameContainer compares the injected container with that of a pod of ../sidecar, and runs it.
func (s server) sameContainer() {
	s.namespace("with-sidecar", nil, nil)
	s.namespace("injected", enabled, endpoints)
	byHand := application(s.T)
	byHand.Spec.InitContainers = []core.Container{sidecarContainer(s.T)}
	want, err := s.CreatePod(s.Context(), "with-sidecar", byHand, false)
	s.must(err)
	got, err := s.CreatePod(s.Context(), "injected", application(s.T), false)
	s.must(err)
	for key := range named[*apps.Deployment](mustBuild(s.T, "../sidecar"), "app").Spec.Template.Labels {
		if got.Labels[key] == "" {
			s.Errorf("the pod has no label %s", key)
		}
	}
	if !equality.Semantic.DeepEqual(got.Spec, want.Spec) {
		s.Errorf("the injected pod is\n%+v\nwant\n%+v", got.Spec, want.Spec)
	}
	s.must(try(s.T, got.Spec.InitContainers[0], []runtime.Object{}, limit))
}

// updates changes a pod that has iamproxy.
func (s server) updates() {
	s.namespace("updates", enabled, endpoints)
	before, err := s.CreatePod(s.Context(), "updates", application(s.T), false)
	s.must(err)
	const pod = "/api/v1/namespaces/updates/pods/app"
	for path, patch := range map[string]string{
		pod: `{"metadata": {"labels": {"a": "b", "iamproxy.github.io/inject": "wrong"}}}`,
		pod + "/ephemeralcontainers": `{"spec": {"ephemeralContainers": [{"name": "debug", "image": "debug", "securityContext": {
			"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]}}`,
	} {
		_, err := s.Do(s.Context(), apiserver.Request{Method: http.MethodPatch, Path: path, Type: "application/strategic-merge-patch+json", Body: []byte(patch)})
		s.must(err)
	}
	after := s.pod("updates", "app")
	if !equality.Semantic.DeepEqual(after.Spec.InitContainers, before.Spec.InitContainers) || len(after.Spec.EphemeralContainers) != 1 {
		s.Errorf("the pod is %+v", after.Spec)
	}
}

// defaultLimits creates a pod in a namespace with a LimitRange. The API server applies it to
// containers of policies, too.
func (s server) defaultLimits() {
	s.namespace("limits", enabled, endpoints)
	s.must(s.Apply(s.Context(), s.object(`{apiVersion: v1, kind: LimitRange, metadata: {name: limits},
		spec: {limits: [{type: Container, default: {cpu: 200m}}]}}`), "limits", apiserver.Admin))
	s.until(func() error {
		pod, err := s.CreatePod(s.Context(), "limits", application(s.T), true)
		if err == nil && pod.Spec.InitContainers[0].Resources.Limits.Cpu().String() != "200m" {
			err = fmt.Errorf("the limits are %v", pod.Spec.InitContainers[0].Resources.Limits)
		}
		return err
	})
}

// failsAlone replaces the policy with one that fails. Only pods that the label selects are refused.
func (s server) failsAlone() {
	s.namespace("fails", enabled, endpoints)
	s.namespace("unconcerned", nil, nil)
	s.withImage(`' + string(1 / 0) + '`)
	s.until(func() error {
		if _, err := s.CreatePod(s.Context(), "fails", application(s.T), true); err == nil {
			return errors.New("the policy does not fail")
		} else if !strings.Contains(err.Error(), "division by zero") {
			return err
		}
		_, err := s.CreatePod(s.Context(), "unconcerned", application(s.T), true)
		return err
	})
}

// withImage applies the policy of the page with another image.
func (s server) withImage(image string) {
	s.Helper()
	for _, object := range s.objects(withImage(s.T, image)) {
		s.must(s.Apply(s.Context(), object, "", apiserver.Admin))
	}
}

// upgrades replaces the image of the policy. New pods have it, and old ones keep theirs.
func (s server) upgrades() {
	s.namespace("upgrade", enabled, endpoints)
	_, err := s.CreatePod(s.Context(), "upgrade", application(s.T), false)
	s.must(err)
	const newer = "ghcr.io/iamproxy/iamproxy:v1.2.4"
	s.withImage(newer)
	next := application(s.T)
	next.Name = "next"
	s.until(func() error {
		pod, err := s.CreatePod(s.Context(), "upgrade", next, true)
		if err == nil && pod.Spec.InitContainers[0].Image != newer {
			err = errors.New("the image is " + pod.Spec.InitContainers[0].Image)
		}
		return err
	})
	if old := s.pod("upgrade", "app").Spec.InitContainers[0].Image; old == newer {
		s.Errorf("the image of an old pod is %s", old)
	}
}

// needsRights applies the bindings as a user without and with the right to read ConfigMaps.
func (s server) needsRights() {
	role := func(rules string) {
		s.must(s.Apply(s.Context(), s.object(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: platform}, rules: [`+rules+`]}`), "", apiserver.Admin))
	}
	const policies = `{apiGroups: [admissionregistration.k8s.io], resources: ["*"], verbs: ["*"]}`
	role(policies)
	s.must(s.Apply(s.Context(), s.object(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: platform},
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: platform},
		subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: user}]}`), "", apiserver.Admin))
	binding := s.object(`{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicyBinding, metadata: {name: rights},
		spec: {policyName: iamproxy-inject, paramRef: {name: iamproxy-inject, parameterNotFoundAction: Allow},
		matchResources: {objectSelector: {matchLabels: {none: none}}}}}`)
	s.until(func() error {
		err := s.Apply(s.Context(), binding, "", apiserver.User)
		if err == nil || !strings.Contains(err.Error(), "permission on the object referenced by paramRef") {
			return fmt.Errorf("a user who cannot read ConfigMaps: %w", err)
		}
		return nil
	})
	role(policies + `, {apiGroups: [""], resources: [configmaps], resourceNames: [iamproxy-inject], verbs: [get]}`)
	s.until(func() error { return s.Apply(s.Context(), binding, "", apiserver.User) })
}

// cost measures what the policies add to the creation of a pod. It asserts nothing, because the
// time depends on the machine.
func (s server) cost() {
	const count = 200
	s.namespace("plain", nil, nil)
	s.namespace("cost", enabled, endpoints)
	pod := application(s.T)
	times := map[string][]time.Duration{}
	for i := range count {
		// In turn, so that the load of the machine is the same.
		for _, namespace := range []string{"plain", "cost"} {
			pod.Name = fmt.Sprint("pod-", i)
			started := time.Now()
			_, err := s.CreatePod(s.Context(), namespace, pod, false)
			s.must(err)
			times[namespace] = append(times[namespace], time.Since(started))
		}
	}
	median := func(namespace string) time.Duration {
		slices.Sort(times[namespace])
		return times[namespace][count/2]
	}
	plain, injected := median("plain"), median("cost")
	s.Logf("%d pods each: %v without and %v with injection (medians); %v more, ratio %.2f", count,
		plain.Round(time.Microsecond), injected.Round(time.Microsecond), (injected - plain).Round(time.Microsecond), float64(injected)/float64(plain))
}
