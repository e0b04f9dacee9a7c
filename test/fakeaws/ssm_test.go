package fakeaws_test

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

const bastion = "i-0123456789abcdef0"

// gateway records the last session.
type gateway struct {
	opened fakeaws.Session
	ended  bool
}

func (g *gateway) Open(s fakeaws.Session) (string, string) {
	g.opened = s
	return "wss://gateway/" + s.ID, "token"
}

func (g *gateway) Resume(id string) (string, string) {
	if g.ended {
		return "wss://gateway/" + id, ""
	}
	return "wss://gateway/" + id, "another token"
}

func (g *gateway) Terminate(string) { g.ended = true }

func startSSM(t *testing.T) (*fakeaws.AWS, *gateway, *ssm.Client) {
	t.Helper()
	g := &gateway{}
	a, _ := start(t)
	a.Gateway = g
	a.AddNode(fakeaws.Node{ID: bastion, Tags: map[string]string{"Name": "bastion"}})
	a.AddNode(fakeaws.Node{ID: "mi-0123456789abcdef0", Ping: "ConnectionLost"})
	a.AddNode(fakeaws.Node{ID: "ecs:cluster_task_runtime"})
	t.Setenv("AWS_ENDPOINT_URL_SSM", a.URL()+"/ssm")
	return a, g, ssm.NewFromConfig(of(t, jane))
}

func toRemoteHost(target string) *ssm.StartSessionInput {
	return &ssm.StartSessionInput{Target: &target, DocumentName: aws.String("AWS-StartPortForwardingSessionToRemoteHost"),
		Parameters: map[string][]string{"host": {"db.example.com"}, "portNumber": {"5432"}}}
}

func TestSession(t *testing.T) {
	a, g, client := startSSM(t)
	a.Allow(janeARN, "ssm:*")
	session, err := client.StartSession(t.Context(), toRemoteHost(bastion))
	if err != nil {
		t.Fatal(err)
	}
	id := aws.ToString(session.SessionId)
	want := fakeaws.Session{ID: id, Target: bastion, Document: "AWS-StartPortForwardingSessionToRemoteHost", Host: "db.example.com", Port: "5432"}
	if g.opened != want || !strings.HasPrefix(id, "jane-") || aws.ToString(session.TokenValue) != "token" || aws.ToString(session.StreamUrl) != "wss://gateway/"+id {
		t.Errorf("opened %+v, want %+v; answer %+v", g.opened, want, session)
	}
	resume := func() string {
		t.Helper()
		resumed, err := client.ResumeSession(t.Context(), &ssm.ResumeSessionInput{SessionId: &id})
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(resumed.TokenValue)
	}
	if token := resume(); token != "another token" {
		t.Errorf("resumed with %q", token)
	}
	for range 2 {
		if _, err := client.TerminateSession(t.Context(), &ssm.TerminateSessionInput{SessionId: &id}); err != nil || !g.ended {
			t.Error(err, g.ended)
		}
	}
	if token := resume(); token != "" {
		t.Errorf("an ended session is resumed with %q", token)
	}
	_, err = client.ResumeSession(t.Context(), &ssm.ResumeSessionInput{SessionId: aws.String("jane-gone")})
	expectRefusal(t, err, 400, "DoesNotExistException")
}

func TestStartSessionRefused(t *testing.T) {
	a, _, client := startSSM(t)
	a.Attach(janeARN, fakeaws.Policy{Actions: []string{"ssm:StartSession"}, Resources: []string{
		"arn:aws:ec2:eu-west-1:111122223333:instance/*", "arn:aws:ecs:eu-west-1:111122223333:task/cluster/task",
		"arn:aws:ssm:eu-west-1:111122223333:managed-instance/*", "arn:aws:ssm:eu-west-1::document/AWS-StartPortForwardingSession",
		"arn:aws:ssm:eu-west-1:111122223333:document/mine"}})
	for _, test := range []struct {
		target, document, host, port string
		code, message                string
	}{
		{target: bastion, document: "AWS-StartPortForwardingSession", port: "5432"},
		{target: bastion},
		{target: "ecs:cluster_task_runtime"},
		{target: "ecs:cluster_other_runtime", code: "AccessDeniedException", message: "User: " + janeARN +
			" is not authorized to perform: ssm:StartSession on resource: arn:aws:ecs:eu-west-1:111122223333:task/cluster/other" +
			" because no identity-based policy allows the ssm:StartSession action"},
		{target: bastion, document: "AWS-StartPortForwardingSessionToRemoteHost", code: "AccessDeniedException", message: "User: " + janeARN +
			" is not authorized to perform: ssm:StartSession on resource: arn:aws:ssm:eu-west-1::document/AWS-StartPortForwardingSessionToRemoteHost" +
			" because no identity-based policy allows the ssm:StartSession action"},
		{target: "i-gone", code: "TargetNotConnected", message: "i-gone is not connected."},
		{target: "mi-0123456789abcdef0", code: "TargetNotConnected", message: "mi-0123456789abcdef0 is not connected."},
		{target: bastion, document: "mine", code: "InvalidDocument", message: "Document with name mine does not exist."},
		{target: bastion, document: "AWS-StartPortForwardingSession", host: "db", code: "InvalidParameters"},
		{target: bastion, document: "AWS-StartPortForwardingSession", port: "0", code: "InvalidParameters"},
	} {
		input := &ssm.StartSessionInput{Target: &test.target, Parameters: make(map[string][]string)}
		if test.document != "" {
			input.DocumentName = &test.document
		}
		for name, value := range map[string]string{"host": test.host, "portNumber": test.port} {
			if value != "" {
				input.Parameters[name] = []string{value}
			}
		}
		_, err := client.StartSession(t.Context(), input)
		if test.code == "" {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		expectRefusal(t, err, 400, test.code)
		if !strings.HasSuffix(err.Error(), test.message) {
			t.Errorf("%v, want %s", err, test.message)
		}
	}
}

func TestDescribeInstanceInformation(t *testing.T) {
	a, _, client := startSSM(t)
	for i := range 12 {
		a.AddNode(fakeaws.Node{ID: "i-" + strconv.Itoa(i), Tags: map[string]string{"Name": "many", "Stage": strconv.Itoa(i % 2)}})
	}
	a.AddNode(fakeaws.Node{ID: "i-far", Region: "us-west-2", Tags: map[string]string{"Name": "bastion"}})
	list := func(filters map[string]string) (ids []string, pages int) {
		t.Helper()
		input := &ssm.DescribeInstanceInformationInput{}
		for key, value := range filters {
			input.Filters = append(input.Filters, types.InstanceInformationStringFilter{Key: aws.String(key), Values: []string{value}})
		}
		for p := ssm.NewDescribeInstanceInformationPaginator(client, input); p.HasMorePages(); pages++ {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range page.InstanceInformationList {
				ids = append(ids, aws.ToString(n.InstanceId)+" "+string(n.PingStatus))
			}
		}
		return ids, pages
	}
	_, err := client.DescribeInstanceInformation(t.Context(), nil)
	expectRefusal(t, err, 400, "AccessDeniedException")
	a.Allow(janeARN, "ssm:DescribeInstanceInformation")
	if all, pages := list(nil); len(all) != 14 || pages != 2 {
		t.Errorf("%d nodes on %d pages: %v", len(all), pages, all)
	}
	if one, _ := list(map[string]string{"tag:Name": "bastion"}); !slices.Equal(one, []string{bastion + " Online"}) {
		t.Errorf("the bastion: %v", one)
	}
	if half, _ := list(map[string]string{"tag:Name": "many", "tag:Stage": "1"}); len(half) != 6 {
		t.Errorf("half: %v", half)
	}
	if lost, _ := list(map[string]string{"PingStatus": "ConnectionLost"}); !slices.Equal(lost, []string{"mi-0123456789abcdef0 ConnectionLost"}) {
		t.Errorf("lost: %v", lost)
	}
}

// The upgrade of a data channel has to be signed for the gateway's service, by a caller that
// may open it.
func TestAuthorizeOpenDataChannel(t *testing.T) {
	a, _, _ := startSSM(t)
	authorize := func(service string) error {
		r, _ := http.NewRequest(http.MethodGet, "http://gateway/v1/data-channel/jane-1?role=publish_subscribe", nil)
		if service != "" {
			credentials := aws.Credentials{AccessKeyID: jane.AccessKeyID, SecretAccessKey: jane.SecretAccessKey}
			const noBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
			if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, noBody, service, region, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		r.Host, r.RequestURI = cmp.Or(r.Host, r.URL.Host), r.URL.RequestURI()
		return a.AuthorizeOpenDataChannel(r, "jane-1")
	}
	for service, want := range map[string]string{"": "MissingAuthenticationToken", "ssm": "SignatureDoesNotMatch", "ssmmessages": "AccessDenied"} {
		if err := authorize(service); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("signed for %q: %v, want %s", service, err, want)
		}
	}
	a.Attach(janeARN, fakeaws.Policy{Actions: []string{"ssmmessages:OpenDataChannel"}, Resources: []string{"arn:aws:ssm:*:*:session/jane-*"}})
	if err := authorize("ssmmessages"); err != nil {
		t.Error(err)
	}
}
