package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// The pages about these manifests.
const (
	sidecarPage   = "../../../docs/kubernetes.md"
	kustomizePage = "../../../docs/kubernetes-kustomize.md"
	migratePage   = "../../../docs/kubernetes-migrate.md"
	sharedPage    = "../../../docs/kubernetes-shared.md"
	injectPage    = "../../../docs/kubernetes-inject.md"
)

// image is the reference in all manifests and on all pages.
const image = "ghcr.io/iamproxy/iamproxy:v1.2.3"

// sidecarLabel is the label of pods with a sidecar, for the NetworkPolicy.
const sidecarLabel = "iamproxy.github.io/sidecar"

// remote is the remote base in place of ../../sidecar.
const remote = "https://github.com/iamproxy/iamproxy//deploy/kubernetes/sidecar?ref=v1.2.3"

var block = regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```$")

// blocks returns the blocks of a page in a language that contain a word.
func blocks(t *testing.T, page, language, word string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range block.FindAllStringSubmatch(string(text), -1) {
		if match[1] == language && strings.Contains(match[2], word) {
			found = append(found, match[2])
		}
	}
	return found
}

// theBlock returns the only such block of YAML.
func theBlock(t *testing.T, page, word string) string {
	t.Helper()
	found := blocks(t, page, "yaml", word)
	if len(found) != 1 {
		t.Fatalf("%s: %d blocks of YAML with %q, want 1", page, len(found), word)
	}
	return found[0]
}

// mustBuild builds a directory and returns its objects.
func mustBuild(t *testing.T, dir string) []runtime.Object {
	t.Helper()
	objects, err := build(dir)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// The sidecar on the page is that of the manifest, works, and is complete.
func TestPageSidecar(t *testing.T) {
	t.Parallel()
	var template core.PodTemplateSpec
	if err := yaml.UnmarshalStrict([]byte(theBlock(t, sidecarPage, "initContainers:")), &template); err != nil {
		t.Fatal(err)
	}
	objects := mustBuild(t, tree(t, "resources: [sidecar]"))
	want := named[*apps.Deployment](objects, "app").Spec.Template
	env, err := environment(want.Spec.InitContainers[0], objects)
	if err != nil {
		t.Fatal(err)
	}
	got := template.Spec.InitContainers[0]
	if has, err := environment(got, objects); err != nil || !reflect.DeepEqual(has, env) {
		t.Errorf("variables %v, %v, want %v", has, err, env)
	}
	if err := try(t, got, objects, limit); err != nil {
		t.Error(err)
	}
	sidecar := want.Spec.InitContainers[0]
	got.Env, sidecar.EnvFrom = nil, nil
	if !reflect.DeepEqual(got, sidecar) {
		t.Errorf("%+v, want %+v", got, sidecar)
	}
	if template.Labels[sidecarLabel] != want.Labels[sidecarLabel] {
		t.Errorf("labels %v, want that of %v for the NetworkPolicy", template.Labels, want.Labels)
	}
	if *template.Spec.TerminationGracePeriodSeconds != *want.Spec.TerminationGracePeriodSeconds || template.Spec.ServiceAccountName != want.Spec.ServiceAccountName {
		t.Errorf("%+v, want the values of %+v", template.Spec, want.Spec)
	}
}

// The patches on the page for the Job of iamproxy grant build and work in both overlays.
func TestPageGrant(t *testing.T) {
	t.Parallel()
	const privileges, init = `"--privileges", "$(PRIVILEGES)"`, `"--init", "/sql/app_iam.sql"`
	secret, irsa := theBlock(t, kustomizePage, "secretKeyRef"), theBlock(t, kustomizePage, "role/iamproxy-grant")
	if !strings.Contains(secret, privileges) || !strings.Contains(kustomizeText(t), "`"+init+"`") {
		t.Fatalf("no replacement %s in %s", init, secret)
	}
	for name, patch := range map[string]string{"secret": secret, "irsa": irsa} {
		for overlay, added := range map[string]string{
			"grant":         patch,
			"grant-migrate": strings.Replace(strings.TrimPrefix(patch, "patches:\n"), privileges, init, 1),
		} {
			dir := tree(t, "resources: [overlays/"+overlay+"]")
			file := filepath.Join(dir, "overlays", overlay, "kustomization.yaml")
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(string(before)+added), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := check(t, dir, limit); err != nil {
				t.Errorf("%s of %s: %v", name, overlay, err)
				continue
			}
			objects := mustBuild(t, dir)
			c := named[*batch.Job](objects, "iamproxy-grant").Spec.Template.Spec.Containers[0]
			if got := !slices.Contains(c.Args, "--admin-secret") && len(c.Env) == 1; got != (name == "secret") {
				t.Errorf("%s of %s: %+v", name, overlay, c)
			}
			account := named[*core.ServiceAccount](objects, "iamproxy-grant")
			if got := account.Annotations["eks.amazonaws.com/role-arn"] != ""; got != (name == "irsa") {
				t.Errorf("%s of %s: %+v", name, overlay, account)
			}
		}
	}
}

// kustomizeText returns docs/kubernetes-kustomize.md.
func kustomizeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(kustomizePage)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The kustomizations on the pages build and work in a copy of the directory, and with remote
// bases, which a local Git repository stands in for.
func TestPageKustomizations(t *testing.T) {
	useRepository(t)
	if !strings.Contains(kustomizeText(t), "`"+remote+"`") {
		t.Errorf("%s lacks %s", kustomizePage, remote)
	}
	local := regexp.MustCompile(`\.\./\.\./[a-z/-]+`)
	for page, count := range map[string]int{kustomizePage: 2, sharedPage: 2} {
		found := blocks(t, page, "yaml", "../../")
		if len(found) != count {
			t.Errorf("%s: %d kustomizations, want %d", page, len(found), count)
		}
		whole := ""
		for _, kustomization := range found {
			if !strings.Contains(kustomization, "kind: Kustomization") { // an addition
				kustomization = strings.Replace(whole, "configMapGenerator:", kustomization+"configMapGenerator:", 1)
			}
			whole = kustomization
			top := tree(t, "resources: []")
			openPort(t, top)
			overlay := filepath.Join(top, "overlays", "app")
			if err := os.Mkdir(overlay, 0o700); err != nil {
				t.Fatal(err)
			}
			for dir, text := range map[string]string{
				overlay: kustomization,
				t.TempDir(): local.ReplaceAllStringFunc(kustomization, func(base string) string {
					return strings.Replace(remote, "sidecar", strings.TrimPrefix(base, "../../"), 1)
				}),
			} {
				if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := check(t, dir, limit); err != nil {
					t.Errorf("%s: %v\n%s", page, err, text)
				}
			}
		}
	}
}

// TestRemoteBases verifies that each directory builds from a clone, without files of another place.
func TestRemoteBases(t *testing.T) {
	useRepository(t)
	for name, kustomization := range kustomizations {
		dir := t.TempDir()
		text := word.ReplaceAllStringFunc(kustomization, func(word string) string {
			if word == "resources" || word == "components" {
				return word
			}
			return strconv.Quote(strings.Replace(remote, "sidecar", word, 1))
		})
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		objects, err := build(dir)
		if err == nil {
			err = inconsistent(objects)
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// word matches the keys and directories of kustomizations.
var word = regexp.MustCompile(`[a-z/-]+`)

// openPort adds the port that the page opens to the example application in a copy of the manifests.
func openPort(t *testing.T, manifests string) {
	t.Helper()
	replace(t, filepath.Join(manifests, "sidecar", "deployment.yaml"), "          image: postgres:18\n", "          image: postgres:18\n          ports: [{ containerPort: 8080 }]\n")
}

// useRepository makes Git clone a copy of the manifests in place of the project's repository. The
// copy's application has the port that the page opens.
func useRepository(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	repository := filepath.Join(dir, "iamproxy.git")
	manifests := filepath.Join(repository, "deploy", "kubernetes")
	if err := os.CopyFS(manifests, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	openPort(t, manifests)
	for _, args := range []string{"init --quiet", "add .", "commit --quiet --message=manifests", "tag v1.2.3"} {
		git := exec.Command("git", strings.Fields("-c user.name=test -c user.email=test@example.com -c tag.gpgSign=false -c commit.gpgSign=false "+args)...)
		git.Dir = repository
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
	}
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url.file://"+dir+"/.insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "https://github.com/iamproxy/")
}

// The component network-policy alone blocks the port of the application, as the page warns.
func TestNetworkPolicyBlocksApplication(t *testing.T) {
	t.Parallel()
	objects := mustBuild(t, tree(t, "resources: [sidecar]\ncomponents: [components/network-policy]"))
	for _, rule := range named[*networking.NetworkPolicy](objects, "iamproxy-sidecar").Spec.Ingress {
		for _, port := range rule.Ports {
			if port.Port.String() != "9090" {
				t.Errorf("port %s is open", port.Port)
			}
		}
	}
}

// Each kubectl command on the pages names a directory that builds, and objects of the manifests or
// of an earlier command.
func TestPageKubectl(t *testing.T) {
	t.Parallel()
	n := 0
	for _, page := range []string{sidecarPage, kustomizePage, migratePage, sharedPage, injectPage} {
		known := map[string]bool{"deployment/app": true, "container/app": true, "container/iamproxy": true} // the pod of the page
		for _, manifest := range blocks(t, page, "yaml", "kind: Deployment") {
			var deployment apps.Deployment
			if err := yaml.Unmarshal([]byte(manifest), &deployment); err != nil {
				t.Fatal(err)
			}
			known["deployment/"+deployment.Name] = true
		}
		for _, text := range blocks(t, page, "sh", "kubectl") {
			text = strings.ReplaceAll(text, "\\\n", " ")
			for _, line := range kubectlLine.FindAllString(text, -1) {
				n++
				if err := kubectl(t, known, strings.Fields(line)[1:]); err != nil {
					t.Errorf("%s: %s: %v", page, line, err)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("found %d commands: there are more", n)
	}
}

var (
	kubectlLine = regexp.MustCompile(`(?m)\bkubectl .*$`)
	objectName  = regexp.MustCompile(`^(deployment|job|secret|serviceaccount)/`)
)

// kubectl checks one command, and adds the objects that it creates to known.
func kubectl(t *testing.T, known map[string]bool, args []string) error {
	t.Helper()
	if args[0] == "-n" {
		if args[1] != "app" {
			return fmt.Errorf("namespace %s", args[1])
		}
		args = args[2:]
	}
	switch args[0] {
	case "apply":
		dir := strings.TrimPrefix(args[2], "deploy/kubernetes/")
		objects, err := build(filepath.Join(tree(t, "resources: []"), dir))
		if err != nil {
			return err
		}
		for _, p := range pods(objects) {
			kind, name, _ := strings.Cut(p.of, " ")
			known[strings.ToLower(kind)+"/"+name] = true
			for _, c := range p.containers() {
				known["container/"+c.Name] = true
			}
		}
		return nil
	case "create":
		switch args[1] {
		case "serviceaccount":
			known["serviceaccount/"+args[2]] = true
		case "secret":
			if !slices.Contains(byHand, args[3]) {
				return fmt.Errorf("no manifest uses the Secret %s", args[3])
			}
			known["secret/"+args[3]] = true
		}
		return nil
	case "run", "api-resources", "describe", "get", "label": // TestInjectPage reads the label
		return nil
	case "delete", "annotate":
		if !objectName.MatchString(args[1]) {
			args = []string{args[0], args[1] + "/" + args[2]}
		}
	case "rollout":
		args = args[1:]
	}
	references := 0
	for i, arg := range args {
		switch {
		case arg == "--":
			if args[i+1] != "/iamproxy" {
				return fmt.Errorf("the image has no %s", args[i+1])
			}
		case arg == "-c":
			if !known["container/"+args[i+1]] {
				return fmt.Errorf("no container %s", args[i+1])
			}
		case objectName.MatchString(arg):
			references++
			if !known[arg] {
				return fmt.Errorf("no %s", arg)
			}
		}
	}
	if references != 1 {
		return fmt.Errorf("names %d objects, want 1", references)
	}
	return nil
}

// Every manifest and page has the same reference to the image.
func TestImageReference(t *testing.T) {
	t.Parallel()
	for name, kustomization := range kustomizations {
		n := 0
		for _, p := range pods(mustBuild(t, tree(t, kustomization))) {
			for _, c := range p.containers() {
				if !isIamproxy(c) {
					continue
				}
				n++
				if c.Image != image {
					t.Errorf("%s: %s has the image %s", name, p.of, c.Image)
				}
			}
		}
		if n == 0 && name != "inject" && name != "kyverno" { // TestInject and TestKyverno have the policies
			t.Errorf("%s has no iamproxy", name)
		}
	}
}
