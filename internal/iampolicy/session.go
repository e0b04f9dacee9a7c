package iampolicy

import (
	"cmp"
	"maps"
	"strings"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
)

// Session is a port forward through Session Manager.
type Session struct {
	Target ssm.Target
	Region string // of the target
	// Account is that of the target. If empty, the policy is for any account; IAM allows
	// sessions only in the account of the caller.
	Account string
	// Host is the host that the target connects to.
	Host string
}

// documentCheck returns the condition that the caller is allowed the document, too, if a request
// names none. A request without a document starts a shell.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html#awssystemsmanager-policy-keys
func documentCheck() conditions {
	return conditions{"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}}
}

// ownSession returns the condition that a session is the caller's. Session Manager tags each
// session with the user ID of its caller, a user or the session of a role. The ID of a session
// begins with another name of the caller, for which a policy has no variable in the case of a role.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-restrict-access-examples.html#restrict-access-example-user-sessions
func ownSession() conditions {
	return conditions{"StringLike": {"ssm:resourceTag/aws:ssmmessages:session-id": "${aws:userid}"}}
}

// AllowSession adds the permissions to open a session, and to resume and end it.
//
// The resource types are those of the service authorization reference. OpenDataChannel has none
// there; AWS's sample policies name the session. It also needs the token of the session.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html
// https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-restrict-access-quickstart.html
func (p *Policy) AllowSession(s Session) {
	document := "arn:" + auth.Partition(s.Region) + ":ssm:" + s.Region + "::document/" + ssm.Document(s.Host) // AWS owns it
	sessions := []string{s.arn("ssm", "session/*")}
	if s.Target.Kind == ssm.Tag {
		tagged := conditions{"StringEquals": {"ssm:resourceTag/" + s.Target.Key: s.Target.Value}}
		maps.Copy(tagged, documentCheck())
		p.add(nil, []string{"*"}, "ssm:DescribeInstanceInformation")
		p.add(tagged, []string{s.arn("ec2", "instance/*"), s.arn("ssm", "managed-instance/*")}, "ssm:StartSession")
		p.add(nil, []string{document}, "ssm:StartSession")
	} else {
		p.add(documentCheck(), []string{s.target(), document}, "ssm:StartSession")
	}
	p.add(nil, sessions, "ssmmessages:OpenDataChannel")
	p.add(ownSession(), sessions, "ssm:ResumeSession", "ssm:TerminateSession")
}

// target returns the ARN of the target.
func (s Session) target() string {
	switch s.Target.Kind {
	case ssm.ManagedNode:
		return s.arn("ssm", "managed-instance/"+s.Target.ID)
	case ssm.Container:
		cluster, task := s.Target.Task()
		return s.arn("ecs", "task/"+cluster+"/"+task)
	default:
		return s.arn("ec2", "instance/"+s.Target.ID)
	}
}

func (s Session) arn(service, resource string) string {
	return strings.Join([]string{"arn", auth.Partition(s.Region), service, s.Region, cmp.Or(s.Account, "*"), resource}, ":")
}
