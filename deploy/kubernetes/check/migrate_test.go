package check

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// legacy returns the Deployment of an application that reads its URL, which has a password, from a
// Secret.
func legacy(t *testing.T) *apps.Deployment {
	t.Helper()
	d := named[*apps.Deployment](mustBuild(t, tree(t, "resources: [sidecar]")), "app")
	d.APIVersion, d.Kind = "apps/v1", "Deployment"
	template := &d.Spec.Template
	delete(template.Labels, sidecarLabel)
	template.Spec.ServiceAccountName, template.Spec.TerminationGracePeriodSeconds = "", nil
	template.Spec.InitContainers = []core.Container{*template.Spec.Containers[0].DeepCopy()}
	template.Spec.InitContainers[0].Name, template.Spec.InitContainers[0].Env = "migrations", nil
	template.Spec.Containers[0].Env = []core.EnvVar{{Name: "DATABASE_URL", ValueFrom: &core.EnvVarSource{
		SecretKeyRef: &core.SecretKeySelector{LocalObjectReference: core.LocalObjectReference{Name: "app"}, Key: "url"},
	}}}
	return d
}

// patched builds the legacy Deployment with patches.
func patched(t *testing.T, patches ...string) []runtime.Object {
	t.Helper()
	dir := t.TempDir()
	base, err := yaml.Marshal(legacy(t))
	if err != nil {
		t.Fatal(err)
	}
	account, err := os.ReadFile("../sidecar/service-account.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kustomization := "resources: [base.yaml, account.yaml]\npatches:\n"
	files := map[string]string{"base.yaml": string(base), "account.yaml": string(account)}
	for i, patch := range patches {
		name := string(rune('a'+i)) + ".yaml"
		files[name] = patch
		kustomization += "  - path: " + name + "\n"
	}
	files["kustomization.yaml"] = kustomization
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return mustBuild(t, dir)
}

// sidecarPatch returns the block with the sidecar as a patch, without the application's container,
// and without some fields of the sidecar.
func sidecarPatch(t *testing.T, without ...string) string {
	t.Helper()
	var template map[string]any
	if err := yaml.Unmarshal([]byte(theBlock(t, sidecarPage, "initContainers:")), &template); err != nil {
		t.Fatal(err)
	}
	spec := template["spec"].(map[string]any)
	delete(spec, "containers")
	for _, field := range without {
		delete(spec["initContainers"].([]any)[0].(map[string]any), field)
	}
	patch, err := yaml.Marshal(map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "app"},
		"spec": map[string]any{"template": template}})
	if err != nil {
		t.Fatal(err)
	}
	return string(patch)
}

// TestMigrateDeployment follows docs/kubernetes-migrate.md: the sidecar leaves the password in
// use, and the second patch replaces it.
func TestMigrateDeployment(t *testing.T) {
	t.Parallel()
	sidecar, url := sidecarPatch(t), theBlock(t, migratePage, "valueFrom: null")

	d := named[*apps.Deployment](patched(t, sidecarPatch(t, "startupProbe", "readinessProbe")), "app")
	if env := d.Spec.Template.Spec.Containers[0].Env[0]; env.Value != "" || env.ValueFrom.SecretKeyRef.Name != "app" {
		t.Errorf("the sidecar changes %+v", env)
	}
	if first := d.Spec.Template.Spec.InitContainers[0]; first.Name != "iamproxy" || first.StartupProbe != nil || first.ReadinessProbe != nil || first.LivenessProbe == nil {
		t.Errorf("the first init container is %+v", first)
	}

	objects := patched(t, sidecar, url)
	if err := inconsistent(objects); err != nil {
		t.Error(err)
	}
	want := core.EnvVar{Name: "DATABASE_URL", Value: "postgres://app_iam@localhost:5432/mydb?sslmode=disable"}
	if env := named[*apps.Deployment](objects, "app").Spec.Template.Spec.Containers[0].Env; len(env) != 1 || env[0] != want {
		t.Errorf("got %+v, want %+v", env, want)
	}

	// Without the line, the result is invalid, as the page says.
	line := regexp.MustCompile(`(?m)^ +valueFrom: null\n`)
	err := inconsistent(patched(t, sidecar, line.ReplaceAllString(url, "")))
	if err == nil || !strings.Contains(err.Error(), "DATABASE_URL has both a value and a source") {
		t.Errorf("without null: %v", err)
	}
}

// TestMigrateOnePod verifies that the second Deployment has its own pods, which the Service of the
// first one selects, too.
func TestMigrateOnePod(t *testing.T) {
	t.Parallel()
	var second apps.Deployment
	if err := yaml.UnmarshalStrict([]byte(theBlock(t, migratePage, "replicas: 1")), &second); err != nil {
		t.Fatal(err)
	}
	first := legacy(t)
	own := pod{template: second.Spec.Template, selector: second.Spec.Selector}
	if err := own.selectsItself(); err != nil {
		t.Error(err)
	}
	if err := own.selected(first.Spec.Selector); err != nil {
		t.Errorf("the Service of the first: %v", err)
	}
	if err := (pod{template: first.Spec.Template}).selected(second.Spec.Selector); err == nil || second.Name == first.Name {
		t.Error("the second Deployment selects pods of the first")
	}
	if second.Spec.Template.Labels[sidecarLabel] != "true" || *second.Spec.Replicas != 1 {
		t.Errorf("got %+v", second.Spec)
	}
}

// The SQL of the overlay is that of docs/migrate.md.
func TestMigrateSQL(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../overlays/grant-migrate/app_iam.sql")
	if err != nil {
		t.Fatal(err)
	}
	sql, comments, _ := strings.Cut(string(file), "-- Add a line")
	_, comments, _ = strings.Cut(comments, "\n")
	for _, block := range []string{sql, strings.ReplaceAll(comments, "-- ", "")} {
		if !strings.Contains(string(page), "```sql\n"+block+"```") {
			t.Errorf("docs/migrate.md lacks %q", block)
		}
	}
}
