package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// isIamproxy reports whether a container runs iamproxy.
func isIamproxy(c core.Container) bool {
	name := c.Image[strings.LastIndex(c.Image, "/")+1:]
	if end := strings.IndexAny(name, ":@"); end >= 0 {
		name = name[:end]
	}
	return name == "iamproxy"
}

// serves reports whether a container runs an iamproxy that clients connect to.
func serves(c core.Container) bool {
	return isIamproxy(c) && (len(c.Args) == 0 || c.Args[0] != "grant")
}

// environment returns the variables that the kubelet sets. Values from Secrets are "secret".
func environment(c core.Container, objects []runtime.Object) (map[string]string, error) {
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil {
			return nil, errors.New("envFrom refers to something other than a ConfigMap")
		}
		config := named[*core.ConfigMap](objects, from.ConfigMapRef.Name)
		if config == nil {
			return nil, fmt.Errorf("no ConfigMap %s", from.ConfigMapRef.Name)
		}
		for name, value := range config.Data {
			env[from.Prefix+name] = value
		}
	}
	for _, variable := range c.Env {
		switch from := variable.ValueFrom; {
		case from == nil:
			env[variable.Name] = variable.Value
		case from.SecretKeyRef != nil && slices.Contains(byHand, from.SecretKeyRef.Name):
			env[variable.Name] = "secret"
		default:
			return nil, fmt.Errorf("the source of %s is unknown", variable.Name)
		}
	}
	return env, nil
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_]\w*)\)`)

// command is a command that runs a container on this machine as the kubelet does, except
// for the ports and the directories of Secrets and ConfigMaps.
type command struct {
	path      string
	args, env []string
}

// prepare returns the command of a container, and writes the files that it mounts to dir.
func prepare(binary, dir string, c core.Container, objects []runtime.Object) (command, error) {
	env, err := environment(c, objects)
	if err != nil {
		return command{}, err
	}
	if len(c.Command) > 0 {
		return command{}, errors.New("the command overrides the entrypoint of the image")
	}
	run := command{path: binary}
	for _, arg := range c.Args {
		run.args = append(run.args, reference.ReplaceAllStringFunc(arg, func(text string) string {
			if value, ok := env[reference.FindStringSubmatch(text)[1]]; ok {
				return value
			}
			return text
		}))
	}
	// Other programs of this machine may use the ports of the container.
	for _, name := range []string{"IAMPROXY_ADMIN", "IAMPROXY_STATUS"} {
		if host, _, err := net.SplitHostPort(env[name]); err == nil {
			env[name] = net.JoinHostPort(host, "0")
		}
	}
	for _, mount := range c.VolumeMounts {
		files := filepath.Join(dir, mount.Name)
		if err := mounted(mount.Name, files, objects); err != nil {
			return command{}, err
		}
		for name, value := range env {
			env[name] = strings.ReplaceAll(value, mount.MountPath+"/", files+"/")
		}
		for i, arg := range run.args {
			run.args[i] = strings.ReplaceAll(arg, mount.MountPath+"/", files+"/")
		}
	}
	if serves(c) {
		run.args = append(run.args, "--listen", "127.0.0.1:0")
	} else {
		run.args = append(run.args, "--dry-run")
	}
	for name, value := range env {
		run.env = append(run.env, name+"="+value)
	}
	run.env = append(run.env, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=example", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent")
	return run, nil
}

// serve starts iamproxy, runs its probes until they succeed, and stops it as the kubelet
// does.
func (run command) serve(ctx context.Context, c core.Container) error {
	cmd := exec.CommandContext(ctx, run.path, run.args...) //nolint:gosec // the program under test
	cmd.Env = run.env
	log, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var output bytes.Buffer
	lines := bufio.NewScanner(log)
	admin := ""
	for admin == "" && lines.Scan() {
		admin = adminPort(lines.Bytes())
		output.Write(lines.Bytes())
		output.WriteByte('\n')
	}
	if admin == "" {
		return fmt.Errorf("iamproxy did not start: %w: %s", cmd.Wait(), &output)
	}
	probed := probes(ctx, c, admin)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	for lines.Scan() {
		output.Write(lines.Bytes())
		output.WriteByte('\n')
	}
	if err := errors.Join(probed, cmd.Wait()); err != nil {
		return fmt.Errorf("%w: %s", err, &output)
	}
	return nil
}

// adminPort returns the port for HTTP in the line of the log that has it, or an empty string.
func adminPort(line []byte) string {
	var entry struct{ Admin string }
	if json.Unmarshal(line, &entry) != nil || entry.Admin == "" {
		return ""
	}
	address, err := url.Parse(entry.Admin)
	if err != nil {
		return ""
	}
	return address.Port()
}

func probes(ctx context.Context, c core.Container, port string) error {
	for kind, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil {
			continue
		}
		if err := until(ctx, func() error { return request(ctx, probe, port) }); err != nil {
			return fmt.Errorf("%s probe: %w", kind, err)
		}
	}
	return nil
}

// errFinal is part of errors that a retry cannot fix.
var errFinal = errors.New("permanent")

// until calls request until it succeeds or returns errFinal. At a timeout, it returns the last
// error before it.
func until(ctx context.Context, request func() error) (why error) {
	for {
		err := request()
		if why == nil || ctx.Err() == nil {
			why = err
		}
		if err == nil || errors.Is(err, errFinal) {
			return err
		}
		select {
		case <-ctx.Done():
			return why
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// request runs an HTTP probe. Like the kubelet, it connects to an address that is not
// loopback, if this machine has one.
func request(ctx context.Context, probe *core.Probe, port string) error {
	host := "127.0.0.1"
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if ip := address.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			host = ip.String()
		}
	}
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+probe.HTTPGet.Path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Duration(probe.TimeoutSeconds) * time.Second}
	response, err := client.Do(get)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%s: %s", probe.HTTPGet.Path, response.Status)
	default:
		return fmt.Errorf("%w: %s: %s", errFinal, probe.HTTPGet.Path, response.Status)
	}
}

// grant runs iamproxy grant, which prints its SQL.
func (run command) grant(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, run.path, run.args...) //nolint:gosec // the program under test
	cmd.Env = run.env
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	if !bytes.Contains(output, []byte("GRANT rds_iam TO")) {
		return fmt.Errorf("rds_iam is not granted: %s", output)
	}
	return nil
}

// mounted writes the files of a volume to a directory.
func mounted(volume, dir string, objects []runtime.Object) error {
	for _, p := range pods(objects) {
		for _, has := range p.template.Spec.Volumes {
			if has.Name != volume || has.ConfigMap == nil {
				continue
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			for name, text := range named[*core.ConfigMap](objects, has.ConfigMap.Name).Data {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return certificate(dir)
}

// certificate writes the files of a Secret of the type kubernetes.io/tls.
func certificate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cert, key, err := selfSigned()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, core.TLSCertKey), cert, 0o600),
		os.WriteFile(filepath.Join(dir, core.TLSPrivateKeyKey), key, 0o600))
}
