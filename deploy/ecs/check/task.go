// Package check holds the files of deploy/ecs to what Amazon ECS and IAM take, as far
// as that can be told without an account.
package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// parseTask reads a task definition. It has to be exactly what the SDK would send for
// it, so that no field is unknown, misplaced or of another type.
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
		return nil, fmt.Errorf("ECS would be sent something else: %s", sent)
	}
	return task, knownValues(reflect.ValueOf(task))
}

// strictly decodes JSON that must have no field that into lacks.
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

// client takes the place of the network.
type client func(*http.Request) (*http.Response, error)

func (c client) Do(r *http.Request) (*http.Response, error) { return c(r) }

// whatIsSent has the SDK register a task definition, and returns the body of its
// request. Before that the SDK finds what is required and missing.
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

// knownValues looks through all there is for words that ECS does not know.
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
	// mostPatience is the longest stopTimeout that Fargate takes.
	mostPatience = 120
	// drainMax is the default of --drain-max.
	drainMax = 25 * time.Second
)

// checkTask finds what ECS would only find when the task is registered or run.
func checkTask(task *ecs.RegisterTaskDefinitionInput) error {
	var errs []error
	report := func(container, format string, args ...any) {
		errs = append(errs, fmt.Errorf(container+": "+format, args...))
	}
	if task.NetworkMode != types.NetworkModeAwsvpc || !slices.Contains(task.RequiresCompatibilities, types.CompatibilityFargate) {
		report(aws.ToString(task.Family), "network mode %s on %v", task.NetworkMode, task.RequiresCompatibilities)
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
			}
		}
		if c.StopTimeout != nil && (*c.StopTimeout < 2 || *c.StopTimeout > mostPatience) {
			report(aws.ToString(c.Name), "stopTimeout %d", *c.StopTimeout)
		}
		if c.LogConfiguration == nil || c.LogConfiguration.Options["awslogs-group"] == "" ||
			c.LogConfiguration.Options["awslogs-region"] == "" || c.LogConfiguration.Options["awslogs-stream-prefix"] == "" {
			report(aws.ToString(c.Name), "no log, or not one that Fargate has")
		}
	}
	return errors.Join(errs...)
}

// checkSidecar is for iamproxy beside an application.
func checkSidecar(task *ecs.RegisterTaskDefinitionInput) error {
	c := containerNamed(task, "iamproxy")
	if c == nil {
		return errors.New("there is no iamproxy")
	}
	patience := drainMax
	for _, variable := range c.Environment {
		if aws.ToString(variable.Name) == "IAMPROXY_DRAIN_MAX" {
			var err error
			if patience, err = time.ParseDuration(aws.ToString(variable.Value)); err != nil {
				return err
			}
		}
	}
	switch {
	case !aws.ToBool(c.Essential):
		return errors.New("the task goes on without iamproxy")
	case c.HealthCheck == nil || len(c.HealthCheck.Command) == 0 || c.HealthCheck.Command[0] != "CMD":
		return errors.New("no health check, or one that needs a shell")
	case c.StopTimeout == nil || time.Duration(*c.StopTimeout)*time.Second <= patience:
		return fmt.Errorf("killed before sessions have had their %v", patience)
	case c.LogConfiguration.Options["mode"] != "non-blocking":
		return errors.New("a log that is not fetched stops the sessions")
	case task.TaskRoleArn == nil:
		return errors.New("no task role: nothing to sign with")
	}
	return checkConfined(c)
}

// checkGrant is for the task that creates users.
func checkGrant(task *ecs.RegisterTaskDefinitionInput) error {
	c := &task.ContainerDefinitions[0]
	secret := argument(c, "--admin-secret")
	switch {
	case task.TaskRoleArn == nil:
		return errors.New("no task role: nobody may read the secret")
	case !regexp.MustCompile("^" + secretARN + "$").MatchString(secret):
		return fmt.Errorf("--admin-secret %q", secret)
	}
	return checkConfined(c)
}

// argument is what follows a flag in a container's command.
func argument(c *types.ContainerDefinition, flag string) string {
	if i := slices.Index(c.Command, flag); i >= 0 && i+1 < len(c.Command) {
		return c.Command[i+1]
	}
	return ""
}

// checkConfined: the image allows all of it.
func checkConfined(c *types.ContainerDefinition) error {
	switch {
	case !aws.ToBool(c.ReadonlyRootFilesystem):
		return fmt.Errorf("%s may write", aws.ToString(c.Name))
	case aws.ToString(c.User) != "65532:65532":
		return fmt.Errorf("%s runs as another than the image's user", aws.ToString(c.Name))
	case c.LinuxParameters == nil || c.LinuxParameters.Capabilities == nil || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}):
		return fmt.Errorf("%s keeps capabilities", aws.ToString(c.Name))
	}
	return nil
}

// secretARN is a secret's, with the six random characters at the end of its name.
const secretARN = `arn:aws:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@!-]+-[A-Za-z0-9]{6}` //nolint:gosec // where a secret is

func containerNamed(task *ecs.RegisterTaskDefinitionInput, name string) *types.ContainerDefinition {
	for i, c := range task.ContainerDefinitions {
		if aws.ToString(c.Name) == name {
			return &task.ContainerDefinitions[i]
		}
	}
	return nil
}
