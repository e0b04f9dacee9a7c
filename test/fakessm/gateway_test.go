package fakessm_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestSession(t *testing.T) {
	g := start(t, &fakessm.Gateway{Agent: fakessm.Agent{Version: old}})
	c := openSession(t, g, echo(t))
	request := c.request()
	var parameters message.SessionTypeParameters
	if err := json.Unmarshal(request.RequestedClientActions[0].ActionParameters, &parameters); err != nil {
		t.Fatal(err)
	}
	if request.AgentVersion != old || parameters.SessionType != message.PortSession || !strings.Contains(string(parameters.Properties), `"type":"LocalPortForwarding"`) {
		t.Errorf("request %+v, %s", request, parameters.Properties)
	}
	c.respond(request, message.Success)
	c.next(message.HandshakeComplete)
	c.send(message.Output, []byte("hello"))
	if m := c.next(message.Output); string(m.Payload) != "hello" || m.SequenceNumber != 2 {
		t.Errorf("%d: %s", m.SequenceNumber, m.Payload)
	}
	// The client's connection ends, and the next data makes a new one.
	c.send(message.Flag, message.DisconnectToPort.Encode())
	waitFor(t, g, func(c fakessm.Counts) bool { return c.OpenStreams == 0 })
	c.send(message.Output, []byte("again"))
	if m := c.next(message.Output); string(m.Payload) != "again" {
		t.Errorf("%s", m.Payload)
	}
	c.send(message.Flag, message.TerminateSession.Encode())
	if output := c.closed(); output != "" {
		t.Errorf("closed with %q", output)
	}
	waitFor(t, g, func(c fakessm.Counts) bool { return c.OpenSockets == 0 && c.OpenStreams == 0 })
	want := fakessm.Counts{Started: 1, Upgrades: 1, TerminateFlags: 1, Streams: 2, BytesUp: 10, BytesDown: 10}
	if got := g.Counts(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, token := g.Resume("jane-1"); token != "" {
		t.Error("an ended session is resumed")
	}
}

func TestTerminate(t *testing.T) {
	g := start(t, &fakessm.Gateway{Agent: fakessm.Agent{Version: old}})
	c := openSession(t, g, echo(t))
	c.shake()
	g.Terminate("jane-1")
	c.closed()
	waitFor(t, g, func(c fakessm.Counts) bool { return c.Terminated == 1 && c.OpenSessions == 0 && c.OpenSockets == 0 })
}

// A token opens one data channel, and a resumed session has a new one.
func TestTokens(t *testing.T) {
	issued := make(map[string]bool)
	g := start(t, &fakessm.Gateway{Agent: fakessm.Agent{Version: old}, Issued: func(secret string) { issued[secret] = true }})
	streamURL, token := open(t, g, echo(t))
	for _, wrong := range []string{"", token} {
		if wrong == token {
			connect(t, streamURL, token).shake()
		}
		var closed websocket.CloseError
		if _, err := connect(t, streamURL, wrong).read(); !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	_, another := g.Resume("jane-1")
	c := connect(t, streamURL, another)
	c.sequence = 1
	c.send(message.Output, []byte("hello"))
	if m := c.next(message.Output); string(m.Payload) != "hello" {
		t.Errorf("%s", m.Payload)
	}
	if !issued[token] || !issued[another] || len(issued) != 3 {
		t.Errorf("issued %d secrets", len(issued))
	}
}

// The session outlives its socket, and the agent sends again what was lost.
func TestSocketEnds(t *testing.T) {
	for name, end := range map[string]func(*fakessm.Gateway){"cut": (*fakessm.Gateway).Cut, "bye": (*fakessm.Gateway).Bye} {
		t.Run(name, func(t *testing.T) {
			g := start(t, &fakessm.Gateway{Agent: fakessm.Agent{Version: old}})
			c := openSession(t, g, echo(t))
			c.shake()
			g.SetFaults(fakessm.Faults{Down: fakessm.Loss{Lose: 1}})
			c.send(message.Output, []byte("hello"))
			waitFor(t, g, func(c fakessm.Counts) bool { return c.BytesDown == 5 })
			go end(g)
			var closed websocket.CloseError
			if _, err := c.read(); err == nil || errors.As(err, &closed) != (name == "bye") || name == "bye" && (closed.Code != 1000 || closed.Reason != "Bye") {
				t.Errorf("%v", err)
			}
			waitFor(t, g, func(c fakessm.Counts) bool { return c.OpenSockets == 0 })
			g.SetFaults(fakessm.Faults{})
			streamURL, token := g.Resume("jane-1")
			again := connect(t, streamURL, token)
			if m := again.next(message.Output); string(m.Payload) != "hello" {
				t.Errorf("%s", m.Payload)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	for name, test := range map[string]struct {
		gateway *fakessm.Gateway
		end     func(*fakessm.Gateway)
		want    string
	}{
		"idle":       {&fakessm.Gateway{IdleTimeout: 100 * time.Millisecond}, func(*fakessm.Gateway) {}, "inactivity"},
		"duration":   {&fakessm.Gateway{MaxDuration: 100 * time.Millisecond}, func(*fakessm.Gateway) {}, "maximum duration"},
		"agent ends": {&fakessm.Gateway{}, func(g *fakessm.Gateway) { g.EndSessions("failed") }, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, test.gateway)
			c := openSession(t, g, echo(t))
			c.shake()
			test.end(g)
			if output := c.closed(); !strings.Contains(output, test.want) {
				t.Errorf("%q", output)
			}
		})
	}
}

// The handshake asks for what the agent's fields say, and a client may refuse.
func TestHandshakeRefused(t *testing.T) {
	for name, agent := range map[string]fakessm.Agent{"KMSEncryption": {KMSKey: "arn:aws:kms:key"}, "SessionType": {SessionType: "Standard_Stream"}} {
		t.Run(name, func(t *testing.T) {
			g := start(t, &fakessm.Gateway{Agents: map[string]fakessm.Agent{"i-1": agent}})
			c := openSession(t, g, echo(t))
			request := c.request()
			asked := request.RequestedClientActions[len(request.RequestedClientActions)-1]
			if text := string(asked.ActionParameters); string(asked.ActionType) != name || !strings.Contains(text, agent.KMSKey) || !strings.Contains(text, agent.SessionType) {
				t.Errorf("%s: %s", asked.ActionType, text)
			}
			c.respond(request, message.Unsupported)
			if output := c.closed(); !strings.Contains(output, "failed on client with status 3") {
				t.Errorf("%q", output)
			}
		})
	}
}

func TestUpgradeRefused(t *testing.T) {
	a := &fakeaws.AWS{}
	g := start(t, &fakessm.Gateway{Authorize: a.AuthorizeOpenDataChannel})
	streamURL, _ := open(t, g, echo(t))
	refused := func(url string, want int) {
		t.Helper()
		_, response, err := dial(t, url)
		if err == nil || response == nil || response.StatusCode != want {
			t.Errorf("%v, %v, want %d", response, err, want)
		}
	}
	refused(streamURL, http.StatusForbidden) // it is not signed
	refused(strings.Replace(streamURL, "jane-1", "jane-2", 1), http.StatusNotFound)
	refused(strings.Replace(streamURL, "publish_subscribe", "subscribe", 1), http.StatusBadRequest)
	g.SetFaults(fakessm.Faults{RefuseUpgrade: http.StatusServiceUnavailable, RefuseResume: true})
	refused(streamURL, http.StatusServiceUnavailable)
	if _, token := g.Resume("jane-1"); token != "" {
		t.Error("resumed")
	}
}

// The destination is looked up in Routes, and one that refuses ends the session of an agent
// without multiplexing.
func TestDestination(t *testing.T) {
	g := start(t, &fakessm.Gateway{Agent: fakessm.Agent{Version: old, Routes: map[string]string{"db.example.com:5432": echo(t), "gone.example.com": "127.0.0.1:1"}}})
	c := openSession(t, g, "db.example.com:5432")
	c.shake()
	c.send(message.Output, []byte("hello"))
	c.next(message.Output)
	c = openSession(t, g, "gone.example.com:1234")
	c.shake()
	if output := c.closed(); !strings.HasPrefix(output, "Unable to connect to specified port:") {
		t.Errorf("%q", output)
	}
	if got := g.Counts().ConnectErrors; got != 1 {
		t.Errorf("%d errors", got)
	}
}
