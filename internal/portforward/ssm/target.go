package ssm

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Kind is the kind of a Target.
type Kind int

// The kinds of targets.
const (
	Instance    Kind = iota // an EC2 instance
	ManagedNode             // a managed node that is not an EC2 instance
	Container               // a container of an ECS task
	Tag                     // the one node that has a tag
)

// Target identifies a node of Systems Manager.
type Target struct {
	Kind Kind
	// ID is the target as StartSession expects it, or empty for a tag.
	ID string
	// Key and Value are those of the tag, or empty.
	Key, Value string
}

// The targets of sessions, and the characters of tags.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_Tag.html
var (
	isInstance    = text.Matching(`^i-[0-9a-f]+$`)
	isManagedNode = text.Matching(`^mi-[0-9a-f]+$`)
	isContainer   = text.Matching(`^ecs:[A-Za-z0-9_-]+_[0-9A-Za-z]+_[0-9A-Za-z-]+$`)
	isTagKey      = text.Matching(`^[\p{L}\p{N}\p{Zs}_.:/+@-]{1,128}$`)
	isTagValue    = text.Matching(`^[\p{L}\p{N}\p{Zs}_.:/=+@-]{1,256}$`)
)

// ParseTarget parses i-ID, mi-ID, ecs:CLUSTER_TASK_RUNTIMEID and tag:KEY=VALUE.
func ParseTarget(name string) (Target, error) {
	if tag, ok := strings.CutPrefix(name, "tag:"); ok {
		key, value, _ := strings.Cut(tag, "=")
		if !isTagKey(key) || !isTagValue(value) {
			return Target{}, errors.New("not a tag (tag:KEY=VALUE)")
		}
		return Target{Kind: Tag, Key: key, Value: value}, nil
	}
	name = strings.TrimSuffix(name, "/")
	switch {
	case isInstance(name):
		return Target{Kind: Instance, ID: name}, nil
	case isManagedNode(name):
		return Target{Kind: ManagedNode, ID: name}, nil
	case isContainer(name):
		return Target{Kind: Container, ID: name}, nil
	default:
		return Target{}, errors.New("not an instance (i-...), a managed node (mi-...), a container (ecs:CLUSTER_TASK_RUNTIMEID) or a tag (tag:KEY=VALUE)")
	}
}

// String returns the target as ParseTarget accepts it.
func (t Target) String() string {
	if t.Kind == Tag {
		return "tag:" + t.Key + "=" + t.Value
	}
	return t.ID
}

// Task returns the cluster and the ID of the task of a container. The name of a cluster may have
// underscores, and the IDs have none.
func (t Target) Task() (cluster, task string) {
	words := strings.Split(strings.TrimPrefix(t.ID, "ecs:"), "_")
	n := len(words)
	if n < 3 {
		return "", ""
	}
	return strings.Join(words[:n-2], "_"), words[n-2]
}

// The documents of port forwards.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html#sessions-start-port-forwarding
const (
	documentToTarget     = "AWS-StartPortForwardingSession"
	documentToRemoteHost = "AWS-StartPortForwardingSessionToRemoteHost"
)

// Document returns the name of the document for a port forward to host, which is a name or an
// address that the target resolves. A loopback host is the target itself.
func Document(host string) string {
	address, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && address.Unmap().IsLoopback() {
		return documentToTarget
	}
	return documentToRemoteHost
}
