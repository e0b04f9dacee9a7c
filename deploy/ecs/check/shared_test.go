//go:build linux

package check

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sharedValues holds values of the parameters without a default.
var sharedValues = map[string]string{
	"Endpoint":              "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com",
	"ResourceId":            "cluster-ABCDEFGHIJKL01234",
	"DatabaseSecurityGroup": "sg-0123456789abcdef1",
	"Cluster":               "app",
	"Vpc":                   "vpc-0123456789abcdef0",
	"Subnets":               "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
	"Certificates":          "arn:aws:secretsmanager:eu-west-1:111122223333:secret:iamproxy-certificates-AbCdEf",
}

func readShared(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../cloudformation/shared.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSharedPage runs the command of docs/ecs-shared.md that stores the certificates, and compares
// the parameters of the next one with those that are tested.
func TestSharedPage(t *testing.T) {
	blocks := pageBlocks(t, "ecs-shared.md", "sh")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	dir := t.TempDir()
	files := map[string]string{"tls.crt": "a certificate\nof two lines\n", "tls.key": "a \"key\"\n", "ca.crt": "a CA\n"}
	files["aws"] = `#!/bin/sh
case "$*" in *" --secret-string file:///dev/stdin") cat >secret.json ;; esac
`
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-euc", blocks[0])
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "secret.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	want := map[string]string{"certificate": files["tls.crt"], "key": files["tls.key"], "clients": files["ca.crt"]}
	if err := json.Unmarshal(text, &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%v: the secret is %q", err, text)
	}
	if given := overrides(blocks[1]); !maps.Equal(given, sharedValues) {
		t.Errorf("the page gives %v, want %v", given, sharedValues)
	}
}

func TestShared(t *testing.T) {
	s, err := parseShared([]byte(readShared(t)), sharedValues)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestSharedMistyped makes mistakes in the template, which the checks must find.
func TestSharedMistyped(t *testing.T) {
	text := readShared(t)
	for _, change := range [][2]string{
		{"DependsOn: [{ ContainerName: certificates", "Dependson: [{ ContainerName: certificates"},
		{"Condition: SUCCESS", "Condition: START"},
		{`"${Certificates}:key::"`, `"${Certificates}"`},
		{"/certificates/key.pem\"", "/certificates/server.pem\""},
		{"/certificates/clients.pem", "/tls/clients.pem"},
		{"ContainerPath: /certificates, ReadOnly: false", "ContainerPath: /certificates, ReadOnly: true"},
		{"Value: 110s", "Value: 120s"},
		{"StopTimeout: 120", "StopTimeout: 180"},
		{`Value: "10000"`, `Value: "11000"`},
		{`Value: "66"`, `Value: "67"`},
		{"MaximumPercent: 150", "MaximumPercent: 200"},
		{"MinimumHealthyPercent: 100", "MinimumHealthyPercent: 50"},
		{`HealthCheckPort: "9090"`, `HealthCheckPort: "9091"`},
		{"HealthCheckPath: /readyz", "HealthCheckPath: /livez"},
		{"TargetType: ip", "TargetType: instance"},
		{`enabled, Value: "false"`, `enabled, Value: "true"`},
		{"Value: source_ip", "Value: lb_cookie"},
		{"HealthCheckTimeoutSeconds: 5", "HealthCheckTimeoutSeconds: 15"},
		{`Cpu: "1024"`, `Cpu: "2048"`},
		{"IAMPROXY_CLIENT_CERT_USER, Value: cn", "IAMPROXY_CLIENT_CERT_USER, Value: map"},
		{"IAMPROXY_ALLOW_FROM, Value: !Ref ClientCidr", "IAMPROXY_ALLOW_FROM, Value: 0.0.0.0/0"},
		{"CidrIp: !Ref ClientCidr", "CidrIp: 0.0.0.0/0"},
		{"FromPort: 9090, ToPort: 9090", "FromPort: 9091, ToPort: 9091"},
		{"ToPort: !Ref Port", "ToPort: 3306"},
		{"      SourceSecurityGroupId: !Ref TaskSecurityGroup", "      SourceSecurityGroupId: !Ref LoadBalancerSecurityGroup"},
		{"SecurityGroups: [!Ref TaskSecurityGroup]", "SecurityGroups: [!Ref LoadBalancerSecurityGroup]"},
		{"Scheme: internal", "Scheme: internet-facing"},
		{"cross_zone.enabled, Value: \"true\"", "cross_zone.enabled, Value: \"false\""},
		{"      Protocol: TCP\n      Port: 5432\n      DefaultActions", "      Protocol: TLS\n      Port: 5432\n      DefaultActions"},
		{"${ResourceId}/${User}", "${ResourceId}/*"},
		{"RoleName: !Ref ExecutionRole", "RoleName: !Ref TaskRole"},
		{"TaskRoleArn: !GetAtt TaskRole.Arn", "TaskRoleArn: !GetAtt ExecutionRole.Arn"},
		{"Service: ecs-tasks.amazonaws.com", "Service: ec2.amazonaws.com"},
		{"DatabaseIngress, Listener]", "DatabaseIngress]"},
		{"ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false"},
		{"!Ref ClientCidr }\n            - { Name: IAMPROXY_LISTEN_TLS", "!Ref ClientCdir }\n            - { Name: IAMPROXY_LISTEN_TLS"},
	} {
		changed := strings.ReplaceAll(text, change[0], change[1])
		if changed == text {
			t.Errorf("the template has no %q", change[0])
			continue
		}
		s, err := parseShared([]byte(changed), sharedValues)
		if err == nil {
			err = s.check()
		}
		if err == nil {
			t.Errorf("accepted with %q", change[1])
		}
	}
}
