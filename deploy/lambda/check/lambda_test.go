//go:build linux

// Package check runs iamproxy as an extension in AWS's Runtime Interface Emulator, with functions
// in Go, Node.js and Python, and a stand-in for Aurora.
package check

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/container"
)

func TestMain(m *testing.M) {
	os.Exit(container.Main(m)) //nolint:forbidigo // TestMain exits
}

const repository = "../../.."

func TestLambda(t *testing.T) {
	p, d := build(t), startDatabase(t)
	for name, test := range map[string]func(*testing.T, *programs, *database){
		"cold start and 500 warm invocations": testInvocations,
		"freeze":                              testFreeze,
		"kept connection":                     testKeptConnection,
		"idle_session_timeout":                testIdleSessionTimeout,
		"credentials near their end":          testCredentials,
		"shutdown during an invocation":       testShutdown,
		"wrong configuration":                 testWrongConfiguration,
		"no credentials":                      testNoCredentials,
		"refused login":                       testRefusedLogin,
		"two extensions":                      testTwoExtensions,
		"response streaming":                  testStreaming,
		"log":                                 testLog,
		"example":                             testExample,
		"check":                               testCheck,
		"container image":                     testImage,
		"managed instances":                   testManagedInstances,
	} {
		t.Run(name, func(t *testing.T) { test(t, p, d) })
	}
}

// build builds the programs, and unpacks the layer.
func build(t *testing.T) *programs {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0")
	p := &programs{
		emulator: container.Build(t, ".", "github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie"),
		layer:    t.TempDir(),
		function: map[string]string{"go": filepath.Dir(container.Build(t, ".", "./function"))},
	}
	layer := filepath.Join(t.TempDir(), "layer.zip")
	binary := container.Build(t, repository, "./cmd/iamproxy")
	makeLayer := exec.Command("go", "run", "./tools/layer", "-binary", binary, "-licenses", "LICENSE", "-write", layer)
	makeLayer.Dir = repository
	if out, err := container.Run(makeLayer); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	unpack(t, layer, p.layer)
	for language, files := range map[string][]string{
		"node":   {"runtime/bootstrap.mjs", "function/index.mjs", "function/hello.mjs", "../example/check.mjs"},
		"python": {"runtime/bootstrap.py", "function/function.py"},
	} {
		dir := t.TempDir()
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p.function[language] = dir
	}
	// The emulator of Managed Instances runs the function as another user.
	if err := errors.Join(
		os.CopyFS(filepath.Join(p.function["node"], "node_modules"), os.DirFS("../example/node_modules")),
		os.Chmod(filepath.Dir(p.function["node"]), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	return p
}

// unpack unpacks a layer, as Lambda does in /opt.
func unpack(t *testing.T, layer, dir string) {
	t.Helper()
	archive, err := zip.OpenReader(layer)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for _, entry := range archive.File {
		path := filepath.Join(dir, entry.Name)
		content, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		target, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, entry.Mode())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(target, content); err != nil {
			t.Fatal(err)
		}
		if err := target.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The static code connects at its first try. Each invocation has a new connection, which the
// pool serves.
func testInvocations(t *testing.T, p *programs, d *database) {
	for language := range commands {
		t.Run(language, func(t *testing.T) {
			s := p.start(t, d, environment{function: language})
			before := d.logins.Load()
			for n := range 501 {
				if r := s.invoke(fmt.Sprintf(`{"sql": "select %d::text"}`, n)); r.Value != fmt.Sprint(n) {
					t.Fatalf("invocation %d: %+v", n, r)
				}
			}
			// A busy machine may not have reset the server connection when the next client comes.
			if logins := d.logins.Load() - before; logins > 250 {
				t.Errorf("%d logins for 502 connections", logins)
			}
		})
	}
}

// Between two invocations the environment is frozen, and the connections of the pool are lost in
// three ways. The next invocation must not fail.
func testFreeze(t *testing.T, p *programs, d *database) {
	for name, lose := range map[string]func(){
		"no loss":                func() {},
		"reset":                  d.reset,
		"terminated by server":   func() { d.terminate(t) },
		"dropped by the network": d.lose,
	} {
		t.Run(name, func(t *testing.T) {
			var sandboxes []*sandbox
			for language := range commands {
				s := p.start(t, d, environment{function: language})
				s.invoke("{}")
				s.signal(syscall.SIGSTOP)
				sandboxes = append(sandboxes, s)
			}
			lose()
			time.Sleep(5 * time.Second) // longer than a connection is used unchecked
			for _, s := range sandboxes {
				s.signal(syscall.SIGCONT)
				for range 10 {
					s.invoke("{}")
				}
			}
		})
	}
}

// A connection that the function keeps fails after the loss.
func testKeptConnection(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "node"})
	s.invoke(`{"keep": true}`)
	s.signal(syscall.SIGSTOP)
	d.reset()
	s.signal(syscall.SIGCONT)
	if body := s.request(`{"keep": true}`); !strings.Contains(body, "errorMessage") {
		t.Errorf("a kept connection survives: %s", body)
	}
	s.invoke("{}")
}

// The server ends the sessions of idle environments. Each environment logs in again.
func testIdleSessionTimeout(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "python", env: map[string]string{"PGOPTIONS": "-c idle_session_timeout=500"}})
	for range 3 {
		s.invoke("{}")
		d.waitSessions(t, 0)
	}
	s.invoke("{}")
}

// With SnapStart, credentials come from a local address and expire.
func testCredentials(t *testing.T, p *programs, d *database) {
	var requests atomic.Int64
	const lifetime = 4 * time.Second
	network := container.NewNetwork(t)
	listener := network.Listen(t)
	source := &http.Server{ReadHeaderTimeout: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprintf(w, `{"AccessKeyId": %q, "SecretAccessKey": %q, "Token": %q, "Expiration": %q}`, aurora.DefaultSessionKey.AccessKeyID,
			aurora.DefaultSessionKey.SecretAccessKey, aurora.DefaultSessionKey.SessionToken, time.Now().Add(lifetime).UTC().Format(time.RFC3339))
	})}
	go func() { _ = source.Serve(listener) }()
	t.Cleanup(func() { source.Close() })
	s := p.startIn(t, network, d, environment{function: "go", env: map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://" + listener.Addr().String() + "/credentials",
		"IAMPROXY_POOL":                      "0", // each connection needs a token
	}})
	s.invoke("{}")
	for end := time.Now().Add(2 * lifetime); time.Now().Before(end); {
		s.invoke("{}")
	}
	s.signal(syscall.SIGSTOP)
	time.Sleep(lifetime + time.Second) // the credentials expire while frozen
	s.signal(syscall.SIGCONT)
	s.invoke("{}")
	if requests.Load() < 3 {
		t.Errorf("credentials fetched %d times", requests.Load())
	}
}

// Lambda ends an environment whose function times out: it kills the function, and sends SHUTDOWN.
// The next invocation has a new one.
func testShutdown(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "node", env: map[string]string{"AWS_LAMBDA_FUNCTION_TIMEOUT": "2", "IAMPROXY_LOG_LEVEL": "info"}})
	s.invoke("{}")
	if body := s.request(`{"sql": "select pg_sleep(6)"}`); !strings.Contains(body, "timed out") {
		t.Errorf("response: %s", body)
	}
	s.waitLog(`"msg":"stopped"`)
	d.waitSessions(t, 0) // when the server has finished the query
	s.invoke("{}")
}

// The function's log has the reason.
func testWrongConfiguration(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "node", env: map[string]string{"IAMPROXY_POOL": "many"}})
	s.request("{}")
	s.waitLog("Extension.InitError")
	s.waitLog(`{"level":"error",`)
	s.waitLog(`"the extension failed","error":"IAMPROXY_POOL`)
}

// Without credentials the function starts, and its connections fail with the reason.
func testNoCredentials(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "python", env: map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
	}})
	s.request("{}")
	s.waitLog("no AWS credentials yet")
	s.waitLog("FATAL:  iamproxy: ")
}

// A refused login is an error of the driver before the function times out.
func testRefusedLogin(t *testing.T, p *programs, d *database) {
	s := p.with("example", p.example(t)).start(t, d, environment{function: "example", command: commands["node"], env: map[string]string{
		"IAMPROXY_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_TIMEOUT": "15",
	}})
	for range 2 {
		if body := s.request("{}"); !strings.Contains(body, "authentication failed for user") {
			t.Errorf("response: %s\n%s", body, s.process.Log())
		}
	}
}

func testTwoExtensions(t *testing.T, p *programs, d *database) {
	other, err := os.ReadFile("runtime/other.py")
	if err != nil {
		t.Fatal(err)
	}
	s := p.start(t, d, environment{function: "go", opt: map[string]string{"extensions/other": string(other)}})
	for range 20 {
		s.invoke("{}")
	}
	if n := strings.Count(s.process.Log(), "other extension: INVOKE"); n < 19 {
		t.Errorf("the other extension has %d invocations", n)
	}
}

func testStreaming(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{function: "node", command: []string{"/usr/bin/node", "./bootstrap.mjs", "index.stream"}})
	for range 3 {
		body := s.request(`{"rows": 1000}`)
		lines := strings.Split(strings.TrimSpace(body), "\n")
		if len(lines) != 1000 || lines[999] != "1000 "+strings.Repeat("x", 100) {
			t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
		}
	}
}

// The log has the format and the level of the function.
func testLog(t *testing.T, p *programs, d *database) {
	for name, test := range map[string]struct {
		env         map[string]string
		want, never string
	}{
		"JSON":  {map[string]string{"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}, `{"level":"info","timestamp":"20`, `"ts"`},
		"Text":  {map[string]string{"AWS_LAMBDA_LOG_FORMAT": "Text", "IAMPROXY_LOG_LEVEL": "info"}, "connected", `"level"`},
		"quiet": {nil, "", "listening"},
	} {
		t.Run(name, func(t *testing.T) {
			s := p.start(t, d, environment{function: "go", env: test.env})
			s.invoke("{}")
			s.waitLog(test.want)
			if log := s.process.Log(); strings.Contains(log, test.never) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// Managed Instances refuse extensions that register for INVOKE.
func testManagedInstances(t *testing.T, p *programs, d *database) {
	s := p.start(t, d, environment{
		function: "node",
		command:  []string{"/opt/bootstrap", "index.handler"},
		env:      map[string]string{"AWS_LAMBDA_MAX_CONCURRENCY": "2"},
		opt:      map[string]string{"bootstrap": "#!/bin/sh\ncd " + p.function["node"] + " && exec /usr/bin/node bootstrap.mjs\n"},
	})
	for n := 0; n < 20; {
		switch body := s.request("{}"); {
		case strings.Contains(body, `"init":"`+aurora.IAMUser+`"`):
			n++
		case strings.Contains(body, "Runtime.Unavailable"): // no runtime has requested the next invocation yet
			time.Sleep(time.Millisecond)
		default:
			t.Fatalf("response: %s\n%s", body, s.process.Log())
		}
	}
}
