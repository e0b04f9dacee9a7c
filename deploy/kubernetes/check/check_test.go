package check

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Time limits of one container, from its start to its end, where success and failure are
// expected.
const (
	limit        = 30 * time.Second
	failureLimit = 15 * time.Second
)

// binary is the path of the iamproxy under test.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "iamproxy")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/iamproxy")
	build.Dir = "../../.."
	if output, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, output))
	}
	m.Run()
}

// check returns the first error in what kubectl apply -k DIR applies.
func check(t *testing.T, dir string, limit time.Duration) error {
	objects, err := build(dir)
	if err != nil {
		return err
	}
	return checkObjects(t, objects, limit)
}

// checkObjects returns the first error in objects that are applied together.
func checkObjects(t *testing.T, objects []runtime.Object, limit time.Duration) error {
	if err := inconsistent(objects); err != nil {
		return err
	}
	for _, p := range pods(objects) {
		for _, c := range p.containers() {
			if !isIamproxy(c) {
				continue
			}
			if err := try(t, c, objects, limit); err != nil {
				return fmt.Errorf("%s: container %s: %w", p.of, c.Name, err)
			}
		}
	}
	return nil
}

// try runs the iamproxy of a container.
func try(t *testing.T, c core.Container, objects []runtime.Object, limit time.Duration) error {
	run, err := prepare(binary, t.TempDir(), c, objects)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if serves(c) {
		return run.serve(ctx, c)
	}
	return run.grant(ctx)
}

// kustomizations lists the kustomizations under test.
var kustomizations = map[string]string{
	"sidecar":         "resources: [sidecar]",
	"sidecar-guarded": "resources: [sidecar]\ncomponents: [components/network-policy, components/pod-monitor]",
	"job":             "resources: [job]",
	"job-guarded":     "resources: [job]\ncomponents: [components/network-policy, components/pod-monitor]",
	"shared":          "resources: [shared]",
	"shared-scaled":   "resources: [shared]\ncomponents: [components/autoscaling]",
	"shared-guarded":  "resources: [shared]\ncomponents: [components/cert-manager, components/pod-monitor]",
	"grant-job":       "resources: [grant-job]",
	"pod-identity":    "resources: [overlays/pod-identity]",
	"irsa":            "resources: [overlays/irsa]",
	"inject":          "resources: [inject, overlays/inject]",
	"kyverno":         "resources: [kyverno]",
	"grant":           "resources: [overlays/grant]",
	"grant-migrate":   "resources: [overlays/grant-migrate]",
}

// The tests and the real API server get each directory of deploy/kubernetes.
func TestKustomizationsAreComplete(t *testing.T) {
	all := strings.Join(slices.Collect(maps.Values(kustomizations)), "\n")
	for _, pattern := range []string{"../*", "../overlays/*", "../components/*"} {
		files, err := filepath.Glob(pattern + "/kustomization.yaml")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			name := strings.TrimPrefix(filepath.Dir(file), "../")
			if !regexp.MustCompile(`[\[ ]` + name + `[,\]]`).MatchString(all) {
				t.Errorf("no kustomization has %s", name)
			}
		}
	}
}

func TestManifests(t *testing.T) {
	for name, kustomization := range kustomizations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check(t, tree(t, kustomization), limit); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each overlay builds with each base that its comment names.
func TestOverlays(t *testing.T) {
	for _, overlay := range []string{"overlays/pod-identity", "overlays/irsa"} {
		for _, base := range []string{"job", "shared"} {
			dir := tree(t, "resources: ["+overlay+"]")
			replace(t, filepath.Join(dir, overlay, "kustomization.yaml"), "- ../../sidecar ", "- ../../"+base+" ")
			objects, err := build(dir)
			if err == nil {
				err = inconsistent(objects)
			}
			if err != nil {
				t.Errorf("%s of %s: %v", base, overlay, err)
			}
			annotated := false
			for _, object := range objects {
				if account, ok := object.(*core.ServiceAccount); ok {
					annotated = account.Annotations["eks.amazonaws.com/role-arn"] != ""
				}
			}
			if annotated != (overlay == "overlays/irsa") {
				t.Errorf("%s of %s: the service account has a role: %v", base, overlay, annotated)
			}
		}
	}
}

// TestManifests includes every directory.
func TestEveryFolder(t *testing.T) {
	found, err := filepath.Glob("../*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("../*/*/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if found = append(found, deeper...); len(found) < 10 {
		t.Fatalf("only %d folders", len(found))
	}
	for _, file := range found {
		folder := strings.TrimPrefix(filepath.Dir(file), "../")
		used := false
		for _, kustomization := range kustomizations {
			for _, word := range strings.FieldsFunc(kustomization, func(r rune) bool { return strings.ContainsRune("[], \n", r) }) {
				used = used || word == folder
			}
		}
		if !used {
			t.Errorf("no test uses %s", folder)
		}
	}
}

// The checks find mistakes in the manifests. Each case makes one.
func TestMistakes(t *testing.T) {
	for name, mistake := range map[string]struct{ file, old, new, want string }{
		"field":             {"sidecar/deployment.yaml", "readinessProbe:", "readynessProbe:", `unknown field "spec.template.spec.initContainers[0].readynessProbe"`},
		"field of a patch":  {"overlays/irsa/kustomization.yaml", "patches:", "patchs:", `unknown field "patchs"`},
		"kind":              {"shared/service.yaml", "kind: Service", "kind: Srevice", `no kind "Srevice"`},
		"quantity":          {"job/job.yaml", "memory: 128Mi", "memory: 128MB!", "quantities must match"},
		"variable":          {"sidecar/kustomization.yaml", "IAMPROXY_DRAIN_MAX", "IAMPROXY_DRIAN_MAX", "exit status 2"},
		"value":             {"shared/kustomization.yaml", "ALLOW_FROM=10.0.0.0/16", "ALLOW_FROM=10.0.0.0/116", "exit status 2"},
		"argument":          {"grant-job/job.yaml", "--admin-secret", "--admn-secret", "exit status 2"},
		"reference":         {"grant-job/job.yaml", "$(ENDPOINT)", "$(ENDPIONT)", "exit status 2"},
		"command as probe":  {"job/job.yaml", "httpGet:\n              path: /startupz\n              port: iamproxy-admin", "exec: {command: [/iamproxy, wait]}", "a probe is not an HTTP request"},
		"path of a probe":   {"sidecar/deployment.yaml", "path: /readyz", "path: /readiz", "404"},
		"port of a probe":   {"sidecar/kustomization.yaml", "0.0.0.0:9090", "0.0.0.0:9091", "IAMPROXY_ADMIN is"},
		"loopback":          {"sidecar/kustomization.yaml", "0.0.0.0:9090", "127.0.0.1:9090", "connection refused"},
		"config map":        {"sidecar/deployment.yaml", "name: iamproxy\n          ports", "name: iamprox\n          ports", "no ConfigMap iamprox"},
		"token":             {"sidecar/service-account.yaml", "Token: false", "Token: true", "ServiceAccount app gives pods a token"},
		"label":             {"sidecar/deployment.yaml", "iamproxy.github.io/sidecar", "iamproxy-sidecar", "the label iamproxy-sidecar has no prefix"},
		"replicas":          {"shared/deployment.yaml", "replicas: 2", "replicas: 3", "4 pods of Deployment iamproxy begin 264 logins per second"},
		"rate":              {"components/autoscaling/kustomization.yaml", "RATE=40", "RATE=66", "5 pods of Deployment iamproxy begin 330 logins per second"},
		"more replicas":     {"components/autoscaling/horizontal-pod-autoscaler.yaml", "maxReplicas: 4", "maxReplicas: 10", "11 pods of Deployment iamproxy begin 440 logins per second"},
		"scaled":            {"components/autoscaling/horizontal-pod-autoscaler.yaml", "    name: iamproxy", "    name: iamprox", "no Deployment iamprox"},
		"fixed replicas":    {"components/autoscaling/kustomization.yaml", "replicas: null", "replicas: 2", "the Deployment sets replicas, too"},
		"service account":   {"job/job.yaml", "serviceAccountName: app", "serviceAccountName: apps", "no ServiceAccount apps"},
		"secret":            {"grant-job/job.yaml", "          envFrom:", "          env: [{name: PGPASSWORD, valueFrom: {secretKeyRef: {name: iamproxy-amdin, key: password}}}]\n          envFrom:", "the source of PGPASSWORD is unknown"},
		"selector":          {"shared/service.yaml", "    app.kubernetes.io/name: iamproxy\n  #", "    app.kubernetes.io/name: iamprox\n  #", "Service iamproxy: selects no pod"},
		"port of a service": {"shared/service.yaml", "targetPort: postgres", "targetPort: postgers", "no port postgers"},
		"port of a policy":  {"shared/network-policy.yaml", "port: 9090", "port: 9091", "no port 9091"},
		"name in a policy":  {"shared/network-policy.yaml", "port: 9090", "port: iamproxy-admin", "port iamproxy-admin is a name"},
		"grace":             {"shared/deployment.yaml", "PeriodSeconds: 120", "PeriodSeconds: 90", "kills after 1m30s"},
		"privilege":         {"sidecar/deployment.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		"sidecar":           {"job/job.yaml", "restartPolicy: Always", "terminationMessagePath: /log", "not a native sidecar"},
		"memory":            {"shared/kustomization.yaml", "MAX_SESSIONS=2500", "MAX_SESSIONS=3500", "too low for 3500 sessions"},
		"exit code":         {"grant-job/job.yaml", "values: [2]", "values: [1]", "exit code 2 of iamproxy grant is retried"},
		"failure policy":    {"grant-job/job.yaml", "containerName: grant", "containerName: grants", "exit code 2 of iamproxy grant is retried"},
		"file of SQL":       {"overlays/grant-migrate/kustomization.yaml", "/sql/app_iam.sql", "/sql/app-iam.sql", "no such file"},
		"SQL":               {"overlays/grant-migrate/kustomization.yaml", "name: iamproxy-grant-sql\n    files", "name: iamproxy-sql\n    files", "no ConfigMap iamproxy-grant-sql"},
		"mounted files":     {"shared/kustomization.yaml", "/tls/tls.key", "/tsl/tls.key", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kustomization := "resources: [" + filepath.Dir(mistake.file) + "]"
			if strings.HasPrefix(mistake.file, "components/") {
				kustomization = "resources: [shared]\ncomponents: [" + filepath.Dir(mistake.file) + "]"
			}
			dir := tree(t, kustomization)
			replace(t, filepath.Join(dir, mistake.file), mistake.old, mistake.new)
			if err := check(t, dir, failureLimit); err == nil || !strings.Contains(err.Error(), mistake.want) {
				t.Errorf("got %v, want %q in it", err, mistake.want)
			}
		})
	}
}

// replace changes the first occurrence of old in a file.
func replace(t *testing.T, file, old, by string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", file, old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, by, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree copies deploy/kubernetes and adds a kustomization at its top.
func tree(t *testing.T, kustomization string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
