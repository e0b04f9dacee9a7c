package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// ingress is a rule of a security group.
type ingress struct {
	GroupID, SourceSecurityGroupID, CidrIP, IPProtocol string
	FromPort, ToPort                                   int
}

// tcpFrom returns the rule that accepts TCP connections from a security group to a port.
func tcpFrom(group string, port int) ingress {
	return ingress{SourceSecurityGroupID: group, IPProtocol: "tcp", FromPort: port, ToPort: port}
}

// checkReachable returns an error unless exactly these can connect: clients to the load balancer, it to
// the listener and the health of iamproxy, and iamproxy to the database.
func (s *shared) checkReachable(c *types.ContainerDefinition) error {
	var balancer struct {
		Scheme, Type           string
		SecurityGroups         []string
		LoadBalancerAttributes []struct{ Key, Value string }
	}
	var listener struct {
		LoadBalancerArn, Protocol string
		Port                      int
		DefaultActions            []struct{ Type, TargetGroupArn string }
	}
	var clients, tasks struct{ SecurityGroupIngress []ingress }
	var database ingress
	var service struct {
		NetworkConfiguration struct {
			AwsvpcConfiguration struct{ SecurityGroups []string }
		}
	}
	for name, into := range map[string]any{
		"LoadBalancer": &balancer, "Listener": &listener, "LoadBalancerSecurityGroup": &clients,
		"TaskSecurityGroup": &tasks, "DatabaseIngress": &database, "Service": &service,
	} {
		if err := s.stack.decode(name, into); err != nil {
			return err
		}
	}
	health, err := strconv.Atoi(s.group.HealthCheckPort)
	if err != nil {
		return err
	}
	cidr := variable(c, "IAMPROXY_ALLOW_FROM")
	databaseRule := tcpFrom("TaskSecurityGroup", s.stack.parameters["Port"].(int))
	databaseRule.GroupID = fmt.Sprint(s.stack.parameters["DatabaseSecurityGroup"])
	for _, part := range []struct {
		name      string
		got, want any
	}{
		{"network of the clients", cidr, s.stack.parameters["ClientCidr"]},
		{"rules of the load balancer", clients.SecurityGroupIngress, []ingress{{CidrIP: cidr, IPProtocol: "tcp", FromPort: listener.Port, ToPort: listener.Port}}},
		{"rules of the tasks", tasks.SecurityGroupIngress, []ingress{tcpFrom("LoadBalancerSecurityGroup", s.group.Port), tcpFrom("LoadBalancerSecurityGroup", health)}},
		{"rule of the database", database, databaseRule},
		{"security groups of the load balancer", balancer.SecurityGroups, []string{"LoadBalancerSecurityGroup"}},
		{"security groups of the tasks", service.NetworkConfiguration.AwsvpcConfiguration.SecurityGroups, []string{"TaskSecurityGroup"}},
		{"load balancer", balancer.Scheme + " " + balancer.Type, "internal network"},
		{"attributes of the load balancer", fmt.Sprint(balancer.LoadBalancerAttributes), "[{load_balancing.cross_zone.enabled true}]"},
		{"listener", fmt.Sprint(listener), "{LoadBalancer TCP 5432 [{forward TargetGroup}]}"},
	} {
		if !reflect.DeepEqual(part.got, part.want) {
			return fmt.Errorf("%s: %v, want %v", part.name, part.got, part.want)
		}
	}
	return nil
}

// checkRoles returns an error unless the roles of the task allow what it needs, and nothing else.
func (s *shared) checkRoles() error {
	if task, execution := aws.ToString(s.task.TaskRoleArn), aws.ToString(s.task.ExecutionRoleArn); task != arnOf("TaskRole") || execution != arnOf("ExecutionRole") {
		return fmt.Errorf("the roles are %s and %s", task, execution)
	}
	secret := regexp.QuoteMeta(fmt.Sprint(s.stack.parameters["Certificates"]))
	user := regexp.QuoteMeta(fmt.Sprintf("arn:aws:rds-db:eu-west-1:111122223333:dbuser:%v/%v", s.stack.parameters["ResourceId"], s.stack.parameters["User"]))
	return errors.Join(
		s.checkRole("TaskRole", "ConnectPolicy", "rds-db:connect", user),
		s.checkRole("ExecutionRole", "CertificatesPolicy", "secretsmanager:GetSecretValue", secret, executionPolicy),
	)
}

// executionPolicy is the policy of AWS for the execution role.
const executionPolicy = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"

// checkRole checks the trust policy of a role, its policies of AWS, and another policy, which allows
// an action on a resource.
func (s *shared) checkRole(role, policy string, action words, resource string, managed ...string) error {
	var has struct {
		AssumeRolePolicyDocument json.RawMessage
		ManagedPolicyArns        []string
	}
	var allows struct {
		RoleName       string
		PolicyDocument json.RawMessage
	}
	if err := errors.Join(s.stack.decode(role, &has), s.stack.decode(policy, &allows)); err != nil {
		return err
	}
	trust, err := parsePolicy(has.AssumeRolePolicyDocument)
	allowed, err2 := parsePolicy(allows.PolicyDocument)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	if allows.RoleName != role || !slices.Equal(has.ManagedPolicyArns, managed) {
		return fmt.Errorf("%s belongs to %s; %s has %v", policy, allows.RoleName, role, has.ManagedPolicyArns)
	}
	return errors.Join(checkTrust(trust), checkAllows(allowed, action, resource))
}

// checkOrder returns an error if the service is created before what its tasks need. ECS rejects a
// service whose target group has no listener.
func (s *shared) checkOrder() error {
	var service struct {
		DependsOn []string `yaml:"DependsOn"`
	}
	node := s.stack.resources["Service"]
	if err := node.Decode(&service); err != nil {
		return err
	}
	for _, needed := range []string{"ConnectPolicy", "CertificatesPolicy", "DatabaseIngress", "Listener"} {
		if !slices.Contains(service.DependsOn, needed) {
			return fmt.Errorf("the service does not wait for %s", needed)
		}
	}
	return nil
}
