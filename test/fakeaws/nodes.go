package fakeaws

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Node is a managed node of Systems Manager. Zero fields are as most nodes have them.
type Node struct {
	// ID is i-... for an instance of EC2, mi-... for a registered server, or
	// ecs:CLUSTER_TASK_RUNTIME for a container, which DescribeInstanceInformation omits.
	ID      string
	Account string // zero: the account of Container
	Region  string // zero: eu-west-1
	Tags    map[string]string
	// Ping is Online, ConnectionLost or Inactive. Sessions start on nodes that are online.
	// Zero: Online.
	Ping         string
	AgentVersion string // zero: 3.3.0.0
}

// AddNode adds or replaces a managed node, and returns its ARN.
func (a *AWS) AddNode(n Node) string {
	n.Account, n.Region = cmp.Or(n.Account, account), cmp.Or(n.Region, "eu-west-1")
	n.Ping, n.AgentVersion = cmp.Or(n.Ping, "Online"), cmp.Or(n.AgentVersion, "3.3.0.0")
	name := nodeARN(n.Region, n.Account, n.ID)
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.nodes, name, n)
	return name
}

// nodeARN returns the ARN that a policy must allow ssm:StartSession on.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html
func nodeARN(region, account, id string) string {
	prefix, resource := "ec2", "instance/"+id
	switch container, isContainer := strings.CutPrefix(id, "ecs:"); {
	case isContainer:
		parts := strings.Split(container, "_")
		prefix, resource = "ecs", "task/"+strings.Join(parts[:min(2, len(parts))], "/")
	case strings.HasPrefix(id, "mi-"):
		prefix, resource = "ssm", "managed-instance/"+id
	}
	return "arn:" + partitionOf(region) + ":" + prefix + ":" + region + ":" + account + ":" + resource
}

// instanceFilter is a filter of DescribeInstanceInformation in its newer form.
type instanceFilter struct {
	Key    string
	Values []string
}

// matches reports whether the node has one of the filter's values.
func (f instanceFilter) matches(n Node) bool {
	key, isTag := strings.CutPrefix(f.Key, "tag:")
	switch {
	case isTag:
		value, has := n.Tags[key]
		return has && slices.Contains(f.Values, value)
	case f.Key == "tag-key":
		return slices.ContainsFunc(f.Values, func(key string) bool { _, has := n.Tags[key]; return has })
	case f.Key == "InstanceIds":
		return slices.Contains(f.Values, n.ID)
	case f.Key == "PingStatus":
		return slices.Contains(f.Values, n.Ping)
	case f.Key == "AgentVersion":
		return slices.Contains(f.Values, n.AgentVersion)
	}
	return false
}

// The limits of MaxResults, and its default.
const (
	minResults = 5
	maxResults = 50
	perPage    = 10
)

// describeInstanceInformation describes the nodes that match all filters, page by page.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_DescribeInstanceInformation.html
func (a *AWS) describeInstanceInformation(c caller, body []byte) (any, *refusal) {
	request, refused := parse[struct {
		Filters    []instanceFilter
		MaxResults int
		NextToken  string
	}](body)
	if refused != nil {
		return nil, refused
	}
	all := "arn:" + partitionOf(c.region) + ":ssm:" + c.region + ":" + c.account + ":*"
	if refused := a.notAuthorized(c.arn, "ssm:DescribeInstanceInformation", all); refused != nil {
		return nil, refused
	}
	size := cmp.Or(request.MaxResults, perPage)
	if size < minResults || size > maxResults {
		return nil, invalid("1 validation error detected: Value '%d' at 'maxResults' failed to satisfy constraint", size)
	}
	var found []any
	for _, n := range visible(a, &a.nodes, c, nil, "") {
		if !strings.HasPrefix(n.ID, "ecs:") && n.matchesAll(request.Filters) {
			found = append(found, n.information())
		}
	}
	start, _ := strconv.Atoi(request.NextToken)
	start = min(max(start, 0), len(found))
	answer := map[string]any{"InstanceInformationList": append([]any{}, found[start:min(start+size, len(found))]...)}
	if start+size < len(found) {
		answer["NextToken"] = strconv.Itoa(start + size)
	}
	return answer, nil
}

func (n Node) matchesAll(filters []instanceFilter) bool {
	return !slices.ContainsFunc(filters, func(f instanceFilter) bool { return !f.matches(n) })
}

// information returns the node as DescribeInstanceInformation describes it.
func (n Node) information() any {
	kind := "EC2Instance"
	if strings.HasPrefix(n.ID, "mi-") {
		kind = "ManagedInstance"
	}
	return map[string]any{
		"InstanceId": n.ID, "PingStatus": n.Ping, "LastPingDateTime": float64(time.Now().Unix()), "AgentVersion": n.AgentVersion,
		"IsLatestVersion": false, "PlatformType": "Linux", "PlatformName": "Amazon Linux", "PlatformVersion": "2023",
		"ResourceType": kind, "IPAddress": "10.0.0.10", "ComputerName": "ip-10-0-0-10." + n.Region + ".compute.internal",
	}
}
