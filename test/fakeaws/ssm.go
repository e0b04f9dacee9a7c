package fakeaws

import (
	"crypto/rand"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Gateway opens the data channels of sessions. Package fakessm has one.
type Gateway interface {
	// Open creates a session, and returns the address and the token of its data channel.
	Open(s Session) (streamURL, token string)
	// Resume returns the address and a new token for a session. The token is empty if the
	// session has ended.
	Resume(session string) (streamURL, token string)
	// Terminate ends a session.
	Terminate(session string)
}

// Session is a session of Session Manager.
type Session struct {
	ID       string // such as jane-0123456789abcdefghijklmnop
	Target   string // the ID of a Node
	Document string // zero: a shell
	// Host and Port are the document's parameters. A zero Host is the node itself.
	Host, Port string
}

// The documents of AWS for port forwards.
const (
	portForwarding             = "AWS-StartPortForwardingSession"
	portForwardingToRemoteHost = "AWS-StartPortForwardingSessionToRemoteHost"
)

// documentParameters are the parameters of AWS's documents. The zero name is a shell.
var documentParameters = map[string][]string{
	"":                         nil,
	portForwarding:             {"portNumber", "localPortNumber"},
	portForwardingToRemoteHost: {"host", "portNumber", "localPortNumber"},
}

// portNumber is the pattern that the documents demand of their ports.
var portNumber = regexp.MustCompile(`^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$`)

// ssm serves the actions of Systems Manager that concern sessions.
func (a *AWS) ssm(w http.ResponseWriter, r *http.Request, path string) {
	a.json11(w, r, path, "ssm", "AmazonSSM", func(c caller, action string, body []byte) (any, *refusal) {
		switch action {
		case "StartSession":
			return a.openSession(c, body)
		case "ResumeSession":
			return a.resumeSession(c, body)
		case "TerminateSession":
			return a.terminateSession(c, body)
		case "DescribeInstanceInformation":
			return a.describeInstanceInformation(c, body)
		}
		return nil, unknownOperation()
	})
}

// openSession serves StartSession. It checks permissions first, as AWS does: on the node, and on the document if
// the request names one.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_StartSession.html
func (a *AWS) openSession(c caller, body []byte) (any, *refusal) {
	request, refused := parse[struct {
		Target, DocumentName string
		Parameters           map[string][]string
	}](body)
	if refused != nil {
		return nil, refused
	}
	if request.Target == "" || len(request.Target) > 400 {
		return nil, invalid("1 validation error detected: Value at 'target' failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	name := nodeARN(c.region, c.account, request.Target)
	resources := []string{name}
	if request.DocumentName != "" {
		resources = append(resources, documentARN(c, request.DocumentName))
	}
	for _, resource := range resources {
		if refused := a.notAuthorized(c.arn, "ssm:StartSession", resource); refused != nil {
			return nil, refused
		}
	}
	if refused := checkDocument(request.DocumentName, request.Parameters); refused != nil {
		return nil, refused
	}
	if !a.connected(name) {
		return nil, &refusal{400, "TargetNotConnected", request.Target + " is not connected."}
	}
	first := func(parameter string) string { return slices.Concat(request.Parameters[parameter], []string{""})[0] }
	s := Session{ID: newSessionID(c), Target: request.Target, Document: request.DocumentName, Host: first("host"), Port: first("portNumber")}
	if s.Port == "" && s.Document != "" {
		s.Port = "80" // the documents' default
	}
	streamURL, token := a.Gateway.Open(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.ssmSessions, sessionARNOf(c, s.ID), true)
	return map[string]string{"SessionId": s.ID, "StreamUrl": streamURL, "TokenValue": token}, nil
}

// documentARN returns the ARN of a document. A document of AWS has no account.
func documentARN(c caller, name string) string {
	owner := c.account
	if strings.HasPrefix(name, "AWS-") {
		owner = ""
	}
	return "arn:" + partitionOf(c.region) + ":ssm:" + c.region + ":" + owner + ":document/" + name
}

func checkDocument(name string, parameters map[string][]string) *refusal {
	known, exists := documentParameters[name]
	if !exists {
		return &refusal{400, "InvalidDocument", "Document with name " + name + " does not exist."}
	}
	for parameter, values := range parameters {
		if !slices.Contains(known, parameter) {
			return &refusal{400, "InvalidParameters", "Parameter " + parameter + " is not defined in the document."}
		}
		isPort := parameter != "host"
		if len(values) != 1 || isPort && !portNumber.MatchString(values[0]) {
			return &refusal{400, "InvalidParameters", "Parameter " + parameter + " does not match its allowed pattern."}
		}
	}
	return nil
}

// connected reports whether a session can start on the node with this ARN.
func (a *AWS) connected(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Gateway != nil && a.nodes[name].Ping == "Online"
}

// newSessionID returns an ID that starts with the caller's name, as AWS's do.
func newSessionID(c caller) string {
	name := c.arn[strings.LastIndexByte(c.arn, '/')+1:]
	return name + "-" + strings.ToLower(rand.Text())
}

// resumeSession returns a new token for the data channel, and no token if the session has
// ended.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_ResumeSession.html
func (a *AWS) resumeSession(c caller, body []byte) (any, *refusal) {
	id, refused := a.knownSession(c, "ssm:ResumeSession", body)
	if refused != nil {
		return nil, refused
	}
	answer := map[string]string{"SessionId": id}
	if streamURL, token := a.Gateway.Resume(id); token != "" {
		answer["StreamUrl"], answer["TokenValue"] = streamURL, token
	}
	return answer, nil
}

// terminateSession succeeds for a session that has ended.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_TerminateSession.html
func (a *AWS) terminateSession(c caller, body []byte) (any, *refusal) {
	id, refused := a.knownSession(c, "ssm:TerminateSession", body)
	if refused != nil {
		return nil, refused
	}
	a.Gateway.Terminate(id)
	return map[string]string{"SessionId": id}, nil
}

// knownSession returns the session that the request names, if the caller may do action on
// it.
func (a *AWS) knownSession(c caller, action string, body []byte) (id string, refused *refusal) {
	request, refused := parse[struct{ SessionID string }](body)
	if refused != nil {
		return "", refused
	}
	name := sessionARNOf(c, request.SessionID)
	if refused := a.notAuthorized(c.arn, action, name); refused != nil {
		return "", refused
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ssmSessions[name] {
		return "", &refusal{400, "DoesNotExistException", "Session " + request.SessionID + " does not exist"}
	}
	return request.SessionID, nil
}

// sessionARNOf returns the ARN of a session of Session Manager.
func sessionARNOf(c caller, id string) string {
	return "arn:" + partitionOf(c.region) + ":ssm:" + c.region + ":" + c.account + ":session/" + id
}

// AuthorizeOpenDataChannel returns an error unless r, the upgrade of a data channel of the
// session to a WebSocket, is signed for service ssmmessages, and its caller may do
// ssmmessages:OpenDataChannel on the session. A Gateway calls it.
func (a *AWS) AuthorizeOpenDataChannel(r *http.Request, session string) error {
	c, refused := a.callerOf(r, nil, "ssmmessages")
	if refused == nil {
		refused = a.notAuthorized(c.arn, "ssmmessages:OpenDataChannel", sessionARNOf(c, session))
	}
	if refused != nil {
		return refused
	}
	return nil
}
