package ssm

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for name, want := range map[string]Target{
		"i-0123456789abcdef0":    {Kind: Instance, ID: "i-0123456789abcdef0"},
		"mi-01/":                 {Kind: ManagedNode, ID: "mi-01"},
		"ecs:my_cluster_0f_0f-1": {Kind: Container, ID: "ecs:my_cluster_0f_0f-1"},
		"tag:Name=bastion":       {Kind: Tag, Key: "Name", Value: "bastion"},
		"tag:a:b/c d=e=f/é":      {Kind: Tag, Key: "a:b/c d", Value: "e=f/é"},
	} {
		got, err := ParseTarget(name)
		if err != nil || got != want || got.String() != strings.TrimSuffix(name, "/") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "bastion", "i-0123456789ABCDEF0", "i-01/x", "--profile", "ecs:a_b", "ecs:task/a", "tag:", "tag:Name", "tag:=b", "tag:a=", "tag:a=b?c", "tag:a=b\n"} {
		if got, err := ParseTarget(name); err == nil {
			t.Errorf("%q: %+v", name, got)
		}
	}
}

func TestTask(t *testing.T) {
	for name, want := range map[string][2]string{
		"ecs:my_cluster_0f_0f-1": {"my_cluster", "0f"},
		"ecs:c_0f_1":             {"c", "0f"},
		"i-01":                   {},
	} {
		target, err := ParseTarget(name)
		if cluster, task := target.Task(); err != nil || cluster != want[0] || task != want[1] {
			t.Errorf("%s: %q, %q, %v", name, cluster, task, err)
		}
	}
}

func TestDocument(t *testing.T) {
	for host, want := range map[string]string{
		"localhost":         documentToTarget,
		"127.0.0.1":         documentToTarget,
		"::1":               documentToTarget,
		"::ffff:127.0.0.1":  documentToTarget,
		"10.0.0.1":          documentToRemoteHost,
		"localhost.example": documentToRemoteHost,
	} {
		if got := Document(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}
