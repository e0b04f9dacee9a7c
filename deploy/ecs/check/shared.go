package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// shared holds what AWS makes of deploy/cloudformation/shared.yaml.
type shared struct {
	stack   *template
	task    *ecs.RegisterTaskDefinitionInput
	group   targetGroup
	service struct {
		DesiredCount                  int
		DeploymentConfiguration       struct{ MinimumHealthyPercent, MaximumPercent int }
		HealthCheckGracePeriodSeconds int
		LoadBalancers                 []struct{ ContainerPort int }
	}
}

// targetGroup holds the properties of a target group of a Network Load Balancer.
type targetGroup struct {
	Port                                                                                                  int
	Protocol, TargetType                                                                                  string
	HealthCheckProtocol, HealthCheckPort, HealthCheckPath                                                 string
	HealthCheckIntervalSeconds, HealthCheckTimeoutSeconds, HealthyThresholdCount, UnhealthyThresholdCount int
	TargetGroupAttributes                                                                                 []struct{ Key, Value string }
}

func (g targetGroup) attributes() map[string]string {
	attributes := map[string]string{}
	for _, attribute := range g.TargetGroupAttributes {
		attributes[attribute.Key] = attribute.Value
	}
	return attributes
}

// parseShared reads the template, with values for its parameters.
func parseShared(text []byte, values map[string]string) (*shared, error) {
	stack, err := parseTemplate(text, values)
	if err != nil {
		return nil, err
	}
	s := &shared{stack: stack}
	if err := errors.Join(stack.decode("TargetGroup", &s.group), stack.decode("Service", &s.service)); err != nil {
		return nil, err
	}
	properties, err := stack.properties("TaskDefinition")
	if err != nil {
		return nil, err
	}
	definition, err := json.Marshal(api(properties))
	if err != nil {
		return nil, err
	}
	s.task, err = parseTask(definition)
	return s, err
}

// decode writes the properties of a resource to a structure.
func (t *template) decode(name string, into any) error {
	properties, err := t.properties(name)
	if err != nil {
		return err
	}
	text, err := json.Marshal(properties)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

const (
	// loginLimit is about the number of IAM logins per second that AWS accepts.
	loginLimit = 200
	// baseMemory and sessionMemory are those of docs/performance.md, in KiB.
	baseMemory    = 32 << 10
	sessionMemory = 192
)

// wantAttributes has the attributes of the target group on which docs/ecs-shared.md relies.
var wantAttributes = map[string]string{
	"deregistration_delay.timeout_seconds":                         "300",
	"deregistration_delay.connection_termination.enabled":          "false",
	"target_health_state.unhealthy.connection_termination.enabled": "false",
	"stickiness.enabled":                                           "true",
	"stickiness.type":                                              "source_ip",
	"preserve_client_ip.enabled":                                   "true",
}

// check returns an error if the parts of the template do not fit each other.
func (s *shared) check() error {
	c, writer := containerNamed(s.task, "iamproxy"), containerNamed(s.task, "certificates")
	if c == nil || writer == nil {
		return errors.New("no iamproxy, or no certificates")
	}
	return errors.Join(
		checkTask(s.task, types.NetworkModeAwsvpc, types.CompatibilityFargate),
		checkConfined(c), s.checkEnd(c), s.checkSize(c), s.checkGroup(c), s.checkReachable(c), s.checkRoles(), s.checkOrder(), checkCertificates(c, writer),
	)
}

// checkEnd returns an error if ECS kills iamproxy before it has closed its sessions.
func (s *shared) checkEnd(c *types.ContainerDefinition) error {
	drain, err := time.ParseDuration(variable(c, "IAMPROXY_DRAIN_MAX"))
	if err == nil && (c.StopTimeout == nil || time.Duration(*c.StopTimeout)*time.Second <= drain) {
		err = fmt.Errorf("killed before sessions have had their %v", drain)
	}
	return err
}

// checkSize returns an error if the memory is too small, or the rates together are too high.
func (s *shared) checkSize(c *types.ContainerDefinition) error {
	sessions, err := strconv.Atoi(variable(c, "IAMPROXY_MAX_SESSIONS"))
	rate, err2 := strconv.Atoi(variable(c, "IAMPROXY_CONNECT_RATE"))
	memory, err3 := strconv.Atoi(aws.ToString(s.task.Memory))
	deployment := s.service.DeploymentConfiguration
	tasks := s.service.DesiredCount * deployment.MaximumPercent / 100
	switch {
	case errors.Join(err, err2, err3) != nil:
		return errors.Join(err, err2, err3)
	case memory<<10 < baseMemory+sessions*sessionMemory:
		return fmt.Errorf("%d MiB for %d sessions", memory, sessions)
	case deployment.MinimumHealthyPercent != 100 || tasks <= s.service.DesiredCount:
		return errors.New("a roll-out stops a task before the next one runs")
	case rate*tasks > loginLimit:
		return fmt.Errorf("%d tasks with %d logins a second each", tasks, rate)
	}
	return nil
}

// checkGroup returns an error if the load balancer does not find iamproxy or its health.
func (s *shared) checkGroup(c *types.ContainerDefinition) error {
	_, listen, err := net.SplitHostPort(variable(c, "IAMPROXY_LISTEN"))
	_, admin, err2 := net.SplitHostPort(variable(c, "IAMPROXY_ADMIN"))
	g := s.group
	switch {
	case errors.Join(err, err2) != nil:
		return errors.Join(err, err2)
	case g.TargetType != "ip" || g.Protocol != "TCP":
		return fmt.Errorf("targets are %s, by %s", g.TargetType, g.Protocol)
	case strconv.Itoa(g.Port) != listen || len(s.service.LoadBalancers) != 1 || s.service.LoadBalancers[0].ContainerPort != g.Port:
		return fmt.Errorf("the targets have port %d", g.Port)
	case g.HealthCheckProtocol != "HTTP" || g.HealthCheckPort != admin || g.HealthCheckPath != "/readyz":
		return fmt.Errorf("the health is at %s of port %s", g.HealthCheckPath, g.HealthCheckPort)
	case g.HealthCheckIntervalSeconds*g.HealthyThresholdCount > s.service.HealthCheckGracePeriodSeconds:
		return errors.New("a task is replaced before it can be healthy")
	case g.HealthCheckTimeoutSeconds > g.HealthCheckIntervalSeconds:
		return errors.New("a health check takes longer than the interval")
	case !maps.Equal(g.attributes(), wantAttributes):
		return fmt.Errorf("attributes %v", g.attributes())
	}
	return nil
}

// checkCertificates returns an error unless iamproxy reads the files that writer writes.
func checkCertificates(c, writer *types.ContainerDefinition) error {
	if len(c.DependsOn) != 1 || aws.ToString(c.DependsOn[0].ContainerName) != "certificates" || c.DependsOn[0].Condition != types.ContainerConditionSuccess {
		return errors.New("iamproxy does not wait for its certificates")
	}
	if user := variable(c, "IAMPROXY_CLIENT_CERT_USER"); user != "cn" {
		return fmt.Errorf("the database user is not the common name, but %q", user)
	}
	files := append(strings.Split(variable(c, "IAMPROXY_LISTEN_TLS"), ","), variable(c, "IAMPROXY_CLIENT_CA"))
	if len(files) != len(writer.Secrets) {
		return fmt.Errorf("%d files of %d secrets", len(files), len(writer.Secrets))
	}
	for i, secret := range writer.Secrets {
		dir, name := path.Split(files[i])
		from, at := mountAt(writer, path.Clean(dir)), mountAt(c, path.Clean(dir))
		if from == nil || at == nil || aws.ToBool(from.ReadOnly) || !aws.ToBool(at.ReadOnly) || name != aws.ToString(secret.Name)+".pem" {
			return fmt.Errorf("nothing writes %s", files[i])
		}
		if want := ":" + aws.ToString(secret.Name) + "::"; !strings.HasSuffix(aws.ToString(secret.ValueFrom), want) {
			return fmt.Errorf("%s is from %s", aws.ToString(secret.Name), aws.ToString(secret.ValueFrom))
		}
	}
	return nil
}
