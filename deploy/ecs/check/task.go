// Package check tests that Amazon ECS and IAM would accept the files of deploy/ecs, as far as
// that is possible without an AWS account.
package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// parseTask reads a task definition. The file must equal what the SDK sends for it, so that no
// field is unknown, misplaced or of another type.
func parseTask(text []byte) (*ecs.RegisterTaskDefinitionInput, error) {
	task := &ecs.RegisterTaskDefinitionInput{}
	if err := strictly(text, task); err != nil {
		return nil, err
	}
	sent, err := whatIsSent(task)
	if err != nil {
		return nil, err
	}
	var inFile, inRequest any
	if err := errors.Join(json.Unmarshal(text, &inFile), json.Unmarshal(sent, &inRequest)); err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(inFile, inRequest) {
		return nil, fmt.Errorf("the SDK would send something else: %s", sent)
	}
	return task, knownValues(reflect.ValueOf(task))
}

// strictly decodes JSON without fields that into lacks.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows the JSON")
	}
	return nil
}

// client answers requests in place of the network.
type client func(*http.Request) (*http.Response, error)

func (c client) Do(r *http.Request) (*http.Response, error) { return c(r) }

// whatIsSent registers a task definition with the SDK, and returns the body of the request. The
// SDK first checks that required fields are present.
func whatIsSent(task *ecs.RegisterTaskDefinitionInput) (body []byte, err error) {
	service := ecs.New(ecs.Options{
		Region:      "eu-west-1",
		Credentials: aws.AnonymousCredentials{},
		HTTPClient: client(func(r *http.Request) (*http.Response, error) {
			body, err = io.ReadAll(r.Body)
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewBufferString("{}"))}, err
		}),
	})
	_, err = service.RegisterTaskDefinition(context.Background(), task)
	return body, err
}

// knownValues returns an error if a field with a fixed set of values has another one.
func knownValues(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return knownValues(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := knownValues(v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", v.Type().Field(i).Name, err)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := knownValues(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.String:
		values := v.MethodByName("Values")
		if !values.IsValid() || v.Len() == 0 {
			return nil
		}
		known := values.Call(nil)[0]
		for i := range known.Len() {
			if known.Index(i).String() == v.String() {
				return nil
			}
		}
		return fmt.Errorf("unknown value %q", v)
	}
	return nil
}

const (
	// mostPatience is the longest stopTimeout that Fargate accepts.
	mostPatience = 120
	// drainMax is the default of --drain-max.
	drainMax = 25 * time.Second
)

// checkTask returns the errors that ECS would report when the task is registered or run.
func checkTask(task *ecs.RegisterTaskDefinitionInput, mode types.NetworkMode, on types.Compatibility) error {
	var errs []error
	report := func(container, format string, args ...any) {
		errs = append(errs, fmt.Errorf(container+": "+format, args...))
	}
	if task.NetworkMode != mode || !slices.Equal(task.RequiresCompatibilities, []types.Compatibility{on}) {
		report(aws.ToString(task.Family), "network mode %s on %v", task.NetworkMode, task.RequiresCompatibilities)
	}
	if on == types.CompatibilityFargate && !fitsFargate(aws.ToString(task.Cpu), aws.ToString(task.Memory)) {
		report(aws.ToString(task.Family), "%s CPU units with %s MiB", aws.ToString(task.Cpu), aws.ToString(task.Memory))
	}
	for _, c := range task.ContainerDefinitions {
		if c.Name == nil || c.Image == nil {
			report(aws.ToString(c.Name), "no name, or no image")
		}
		for _, need := range c.DependsOn {
			if other := containerNamed(task, aws.ToString(need.ContainerName)); other == nil {
				report(aws.ToString(c.Name), "depends on %s, which is not there", aws.ToString(need.ContainerName))
			} else if need.Condition == types.ContainerConditionHealthy && other.HealthCheck == nil {
				report(aws.ToString(c.Name), "waits for the health of %s, which has no check", aws.ToString(other.Name))
			} else if need.Condition == types.ContainerConditionSuccess && aws.ToBool(other.Essential) {
				report(aws.ToString(c.Name), "waits for the end of %s, which is essential", aws.ToString(other.Name))
			}
		}
		for _, mount := range c.MountPoints {
			if volumeNamed(task, aws.ToString(mount.SourceVolume)) == nil {
				report(aws.ToString(c.Name), "mounts %s, which is no volume", aws.ToString(mount.SourceVolume))
			}
		}
		if c.StopTimeout != nil && (*c.StopTimeout < 2 || *c.StopTimeout > mostPatience) {
			report(aws.ToString(c.Name), "stopTimeout %d", *c.StopTimeout)
		}
		if err := checkLog(task, c.LogConfiguration); err != nil {
			report(aws.ToString(c.Name), "%w", err)
		}
	}
	return errors.Join(errs...)
}

// fitsFargate reports whether Fargate has tasks of this size, up to 4 vCPU.
// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
func fitsFargate(cpu, memory string) bool {
	units, err := strconv.Atoi(cpu)
	mib, err2 := strconv.Atoi(memory)
	return err == nil && err2 == nil && slices.Contains([]int{256, 512, 1024, 2048, 4096}, units) &&
		mib >= 2*units && mib <= min(8*units, 30*1024) && (mib%1024 == 0 || units == 256 && mib == 512)
}

// checkLog returns an error unless the log goes to CloudWatch Logs, directly or through a log router.
func checkLog(task *ecs.RegisterTaskDefinitionInput, log *types.LogConfiguration) error {
	router := func(c types.ContainerDefinition) bool { return c.FirelensConfiguration != nil }
	switch {
	case log == nil:
		return errors.New("no log")
	case log.LogDriver == types.LogDriverAwsfirelens && !slices.ContainsFunc(task.ContainerDefinitions, router):
		return errors.New("no log router")
	case log.LogDriver == types.LogDriverAwsfirelens && (log.Options["log_group_name"] == "" || log.Options["region"] == "" || log.Options["Name"] != "cloudwatch_logs"):
		return fmt.Errorf("the log router sends to %v", log.Options)
	case log.LogDriver == types.LogDriverAwslogs && (log.Options["awslogs-group"] == "" || log.Options["awslogs-region"] == "" || log.Options["awslogs-stream-prefix"] == ""):
		return errors.New("not a log that Fargate has")
	}
	return nil
}

// checkSidecar returns an error if a task has no working iamproxy beside the application.
func checkSidecar(task *ecs.RegisterTaskDefinitionInput) error {
	c := containerNamed(task, "iamproxy")
	if c == nil {
		return errors.New("there is no iamproxy")
	}
	patience := drainMax
	if value := variable(c, "IAMPROXY_DRAIN_MAX"); value != "" {
		var err error
		if patience, err = time.ParseDuration(value); err != nil {
			return err
		}
	}
	switch {
	case !aws.ToBool(c.Essential):
		return errors.New("the task continues without iamproxy")
	case c.HealthCheck == nil || len(c.HealthCheck.Command) == 0 || c.HealthCheck.Command[0] != "CMD":
		return errors.New("no health check, or one that needs a shell")
	case c.StopTimeout == nil || time.Duration(*c.StopTimeout)*time.Second <= patience:
		return fmt.Errorf("killed before sessions have had their %v", patience)
	case c.LogConfiguration.LogDriver == types.LogDriverAwslogs && c.LogConfiguration.Options["mode"] != "non-blocking":
		return errors.New("a log driver that blocks")
	case task.TaskRoleArn == nil:
		return errors.New("no task role: nothing to sign with")
	}
	return checkConfined(c)
}

// checkSocket returns an error unless the application reaches iamproxy at a unix socket on a volume
// of the task: in the network mode bridge, containers do not share localhost.
func checkSocket(task *ecs.RegisterTaskDefinitionInput) error {
	app, sidecar := containerNamed(task, "app"), containerNamed(task, "iamproxy")
	if app == nil || sidecar == nil {
		return errors.New("no app, or no iamproxy")
	}
	dir, ok := strings.CutPrefix(variable(sidecar, "IAMPROXY_LISTEN"), "unix:")
	host := databaseURL(app).Query().Get("host")
	at, from := mountAt(app, host), mountAt(sidecar, dir)
	if !ok || at == nil || from == nil || aws.ToString(at.SourceVolume) != aws.ToString(from.SourceVolume) {
		return fmt.Errorf("app connects to %q, which is not the volume of %q", host, dir)
	}
	if aws.ToBool(from.ReadOnly) {
		return errors.New("iamproxy cannot make its socket on a read-only mount")
	}
	uid, gid, _ := strings.Cut(aws.ToString(sidecar.User), ":")
	volume := volumeNamed(task, aws.ToString(from.SourceVolume)).DockerVolumeConfiguration
	switch {
	case volume == nil || volume.Scope != types.ScopeTask || volume.Autoprovision != nil:
		return errors.New("not a volume of the task alone")
	case aws.ToString(volume.Driver) != "local" || volume.DriverOpts["type"] != "tmpfs" || volume.DriverOpts["device"] != "tmpfs":
		return fmt.Errorf("a volume without an owner: %s %v", aws.ToString(volume.Driver), volume.DriverOpts)
	case volume.DriverOpts["o"] != "uid="+uid+",gid="+gid+",mode=0755":
		return fmt.Errorf("iamproxy runs as %s:%s, and the volume has %s", uid, gid, volume.DriverOpts["o"])
	}
	if _, group, _ := strings.Cut(aws.ToString(app.User), ":"); group != gid && variable(sidecar, "IAMPROXY_SOCKET_MODE") != "0666" {
		return fmt.Errorf("app runs as %s and may not open the socket", aws.ToString(app.User))
	}
	return nil
}

// mountAt returns the mount of a container at a path, or nil.
func mountAt(c *types.ContainerDefinition, path string) *types.MountPoint {
	for i, mount := range c.MountPoints {
		if aws.ToString(mount.ContainerPath) == path {
			return &c.MountPoints[i]
		}
	}
	return nil
}

// volumeNamed returns a volume of the task, or nil.
func volumeNamed(task *ecs.RegisterTaskDefinitionInput, name string) *types.Volume {
	for i, volume := range task.Volumes {
		if aws.ToString(volume.Name) == name {
			return &task.Volumes[i]
		}
	}
	return nil
}

// variable returns the value of an environment variable of a container, or "".
func variable(c *types.ContainerDefinition, name string) string {
	for _, v := range c.Environment {
		if aws.ToString(v.Name) == name {
			return aws.ToString(v.Value)
		}
	}
	return ""
}

// databaseURL returns the DATABASE_URL of a container. It is empty if the variable is not a URL.
func databaseURL(c *types.ContainerDefinition) *url.URL {
	parsed, err := url.Parse(variable(c, "DATABASE_URL"))
	if err != nil {
		return &url.URL{}
	}
	return parsed
}

// checkGrant returns an error if a task cannot create users.
func checkGrant(task *ecs.RegisterTaskDefinitionInput) error {
	c := containerNamed(task, "grant")
	if c == nil {
		return errors.New("there is no grant")
	}
	secret := argument(c, "--admin-secret")
	switch {
	case task.TaskRoleArn == nil:
		return errors.New("no task role, so it cannot read the secret")
	case !regexp.MustCompile("^" + secretARN + "$").MatchString(secret):
		return fmt.Errorf("--admin-secret %q", secret)
	}
	return checkConfined(c)
}

// checkInit returns an error if the first container of a task does not write the file of --init.
func checkInit(task *ecs.RegisterTaskDefinitionInput) error {
	writer, c := containerNamed(task, "sql"), containerNamed(task, "grant")
	if writer == nil || c == nil {
		return errors.New("no sql, or no grant")
	}
	dir, _ := path.Split(argument(c, "--init"))
	at, from := mountAt(c, path.Clean(dir)), mountAt(writer, path.Clean(dir))
	waits := func(need types.ContainerDependency) bool {
		return aws.ToString(need.ContainerName) == "sql" && need.Condition == types.ContainerConditionSuccess
	}
	switch {
	case at == nil || from == nil || aws.ToString(at.SourceVolume) != aws.ToString(from.SourceVolume):
		return fmt.Errorf("%q is not on a volume of both", dir)
	case aws.ToBool(from.ReadOnly):
		return errors.New("sql cannot write the file")
	case aws.ToBool(writer.Essential):
		return errors.New("the task ends when the file is written")
	case !slices.ContainsFunc(c.DependsOn, waits):
		return errors.New("grant does not wait for the file")
	}
	return nil
}

// argument returns the value of a flag in a container's command, or "".
func argument(c *types.ContainerDefinition, flag string) string {
	if i := slices.Index(c.Command, flag); i >= 0 && i+1 < len(c.Command) {
		return c.Command[i+1]
	}
	return ""
}

// checkConfined returns an error if the container has rights that the image does not need.
func checkConfined(c *types.ContainerDefinition) error {
	switch {
	case !aws.ToBool(c.ReadonlyRootFilesystem):
		return fmt.Errorf("%s has a writable file system", aws.ToString(c.Name))
	case aws.ToString(c.User) != "65532:65532":
		return fmt.Errorf("%s does not run as the image's user", aws.ToString(c.Name))
	case c.LinuxParameters == nil || c.LinuxParameters.Capabilities == nil || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}):
		return fmt.Errorf("%s keeps capabilities", aws.ToString(c.Name))
	}
	return nil
}

// secretARN matches the ARN of a secret, with the six random characters that end its name.
const secretARN = `arn:aws:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+-[A-Za-z0-9]{6}` //nolint:gosec // where a secret is

// containerNamed returns a container of the task, or nil.
func containerNamed(task *ecs.RegisterTaskDefinitionInput, name string) *types.ContainerDefinition {
	for i, c := range task.ContainerDefinitions {
		if aws.ToString(c.Name) == name {
			return &task.ContainerDefinitions[i]
		}
	}
	return nil
}
