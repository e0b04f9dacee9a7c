package ssm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxCandidates limits the nodes that an error lists.
const maxCandidates = 5

// choose returns the ID of the one connected node among those with the tag.
func choose(tag Target, nodes []node) (id string, err error) {
	connected := slices.DeleteFunc(slices.Clone(nodes), func(n node) bool { return n.PingStatus != "Online" })
	switch {
	case len(connected) == 1:
		return connected[0].InstanceID, nil
	case len(connected) == 0 && len(nodes) > 0:
		return "", &tagError{fmt.Sprintf("no node with the tag %s=%s is connected: %s", tag.Key, tag.Value, list(nodes)),
			"Start the node. If it is running, check its SSM Agent, its route to the endpoints of Systems Manager, and that its role has the policy AmazonSSMManagedInstanceCore."}
	case len(connected) == 0:
		return "", &tagError{fmt.Sprintf("Systems Manager has no node with the tag %s=%s in this account and region", tag.Key, tag.Value),
			"Check the tag, the profile and the region (ssm://...?region=REGION&profile=PROFILE). Systems Manager lists a node after its SSM Agent has connected with a role that has the policy AmazonSSMManagedInstanceCore."}
	default:
		return "", &tagError{fmt.Sprintf("%d nodes have the tag %s=%s: %s", len(connected), tag.Key, tag.Value, list(connected)),
			fmt.Sprintf("In --via, replace %s with one of them, such as %s, or with a tag that one node has.", tag, connected[0].InstanceID)}
	}
}

// list returns the nodes for an error.
func list(nodes []node) string {
	var names []string
	for _, n := range nodes[:min(len(nodes), maxCandidates)] {
		detail := cmp.Or(n.ComputerName, "no name")
		if n.PingStatus != "Online" {
			detail += ", " + n.PingStatus
		}
		names = append(names, n.InstanceID+" ("+detail+")")
	}
	if more := len(nodes) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// tagError is the error for a tag that does not name exactly one connected node.
type tagError struct{ text, hint string }

func (e *tagError) Error() string { return e.text }

// Advice returns the hint.
func (e *tagError) Advice() string { return e.hint }
