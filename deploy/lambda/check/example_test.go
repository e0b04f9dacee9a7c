//go:build linux

package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

// example returns a directory with the runtime of Node.js and the example.
func (p *programs) example(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../example")); err != nil {
		t.Fatal(err)
	}
	bootstrap, err := os.ReadFile("runtime/bootstrap.mjs")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bootstrap.mjs"), bootstrap, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The example runs with the variables that template.yaml and main.tf set.
func testExample(t *testing.T, p *programs, d *database) {
	example := p.with("example", p.example(t))
	s := example.start(t, d, environment{function: "example", command: commands["node"]})
	for range 3 {
		if body := s.request("{}"); !strings.Contains(body, `"session_user":"`+aurora.IAMUser+`"`) {
			t.Fatalf("response: %s\n%s", body, s.process.Log())
		}
	}
	checkPage(t)
	for _, file := range []string{"../template.yaml", "../main.tf"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"IAMPROXY_ENDPOINTS", "PGHOST", "PGUSER", "PGDATABASE", "rds-db:connect", "index.handler", "iamproxy-lambda-amd64.zip"} {
			if !strings.Contains(string(content), name) {
				t.Errorf("%s has no %s", file, name)
			}
		}
	}
}

var blocks = regexp.MustCompile("(?ms)^ *```(js|dockerfile)\n(.*?)^ *```$")

// checkPage checks that the files have the code of docs/lambda.md.
func checkPage(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(repository + "/docs/lambda.md")
	if err != nil {
		t.Fatal(err)
	}
	var files string
	for _, name := range []string{"../example/index.mjs", "../example/check.mjs", "../Dockerfile"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files += string(content)
	}
	found := blocks.FindAllStringSubmatch(string(page), -1)
	if len(found) != 3 {
		t.Errorf("docs/lambda.md has %d blocks", len(found))
	}
	for _, block := range found {
		if !strings.Contains(files, strings.TrimSpace(block[2])) {
			t.Errorf("no file has %s", block[2])
		}
	}
}

// iamproxy check runs in a function, with the variables of the extension. It tests the first
// endpoint.
func testCheck(t *testing.T, p *programs, d *database) {
	example := p.with("example", p.example(t))
	s := example.start(t, d, environment{
		function: "example",
		command:  []string{"/usr/bin/node", "./bootstrap.mjs", "check.handler"},
		env:      map[string]string{"IAMPROXY_ENDPOINTS": aurora.DefaultHost + "," + aurora.DefaultHost + "?user=other"},
	})
	var report struct {
		OK                       bool
		Endpoint, User, Database string
	}
	body := s.request("{}")
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if !report.OK || report.Endpoint != aurora.DefaultHost+":5432" || report.User != aurora.IAMUser || report.Database != aurora.Database {
		t.Errorf("report: %s", body)
	}
}

// The Dockerfile copies iamproxy into an image of AWS's, for which a base with the emulator and the
// runtime of the tests stands in.
func testImage(t *testing.T, p *programs, d *database) {
	images := container.NewImages(t)
	release, base := images.Skeleton(), images.Hollow("/var/task", "/var/runtime", "/opt")
	for to, from := range map[string]string{
		filepath.Join(release, "iamproxy"):               filepath.Join(p.layer, "extensions/iamproxy"),
		filepath.Join(release, "LICENSE"):                repository + "/LICENSE",
		filepath.Join(release, "LICENSES"):               repository + "/LICENSE",
		filepath.Join(base, "var/runtime/emulator"):      p.emulator,
		filepath.Join(base, "var/runtime/bootstrap.mjs"): "runtime/bootstrap.mjs",
	} {
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	images.Base("ghcr.io/iamproxy/iamproxy:v1.2.3", release)
	images.Base("public.ecr.aws/lambda/nodejs:24", base, "ENV LAMBDA_TASK_ROOT=/var/task", "WORKDIR /var/task", "USER 0:0",
		`ENTRYPOINT ["/bin/sh", "-c", "echo started; exec /var/runtime/emulator --log-level warn /usr/bin/node /var/runtime/bootstrap.mjs $1", "sh"]`)
	image := images.Build("../Dockerfile", "..").Container()
	image.Writable, image.Mounts = true, container.Tools()
	image.Mounts["/etc/hosts"] = "/etc/hosts" // as engines do
	image.Mounts[d.cluster.CAFile()] = d.cluster.CAFile()
	s := newSandbox(t, container.NewNetwork(t), d)
	image.Env = append(image.Env, s.environment(nil)...)
	s.run(image.Command(t, s.network))
	for range 3 {
		if body := s.request("{}"); !strings.Contains(body, `"session_user":"`+aurora.IAMUser+`"`) {
			t.Fatalf("response: %s\n%s", body, s.process.Log())
		}
	}
}
