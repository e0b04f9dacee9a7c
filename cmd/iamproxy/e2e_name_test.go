//go:build unix

package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// A CNAME is looked up for the line to use, and for nothing else.
func TestNameOfOnesOwn(t *testing.T) {
	m := newMovingName(t, "db.example.com")
	m.leadTo(standin.DefaultHost)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"db.example.com", "--listen=127.0.0.1:0"}, "'" + standin.DefaultHost + ":5432?via=db.example.com:5432'"},
		{[]string{"DB.example.com:6000?via=10.0.0.1:7000"}, "'" + standin.DefaultHost + ":6000?via=10.0.0.1:7000'"},
		{[]string{"token", "db.example.com", "--user=u"}, "'" + standin.DefaultHost + ":5432?via=db.example.com:5432'"},
		{[]string{"other.example.com"}, "not a name that AWS gives a database; use that name"},
	} {
		cmd := m.command(binaryPath(t), test.args...)
		cmd.Env = keyEnvironment(standin.DefaultKey)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), test.want) || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("%s: %v, %s, want %s", test.args, err, out, test.want)
		}
	}
}

// movingName is a name in a DNS of its own, which only those ask who have its
// resolv.conf.
type movingName struct {
	name       string
	resolvConf string

	mu      sync.Mutex
	address [4]byte
	alias   string // what the name is another one for (CNAME); empty: for nothing
}

// withResolvConf runs a program where $0 is /etc/resolv.conf, and nowhere else.
const withResolvConf = `mount --bind "$0" /etc/resolv.conf && exec "$@"`

func newMovingName(t *testing.T, name string) *movingName {
	t.Helper()
	const server = "127.94.0.53" // a loopback address that nobody has taken
	m := &movingName{name: name, resolvConf: filepath.Join(t.TempDir(), "resolv.conf")}
	if err := os.WriteFile(m.resolvConf, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := m.command("true").CombinedOutput(); err != nil {
		t.Skipf("this account, or root of this container, mounts nothing: %v: %s", err, bytes.TrimSpace(out))
	}
	conn, err := net.ListenPacket("udp", server+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			if reply, err := m.answer(packet[:n]); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return m
}

// command is a program for which the name leads somewhere.
func (m *movingName) command(program string, args ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{"--mount", "sh", "-c", withResolvConf, m.resolvConf, program}, args...)...)
}

func (m *movingName) moveTo(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.address = [4]byte(net.ParseIP(address).To4())
}

func (m *movingName) leadTo(alias string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alias = alias
}

func (m *movingName) answer(question []byte) ([]byte, error) {
	var asked dnsmessage.Message
	if err := asked.Unpack(question); err != nil || len(asked.Questions) != 1 {
		return nil, errors.New("not a question")
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: asked.ID, Response: true, RecursionDesired: true, RecursionAvailable: true},
		Questions: asked.Questions,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch q := asked.Questions[0]; {
	case q.Name.String() != m.name+".":
		reply.RCode = dnsmessage.RCodeNameError
	case m.alias != "":
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(m.alias + ".")},
		}}
	case q.Type == dnsmessage.TypeA: // and there is nothing else
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: m.address},
		}}
	}
	return reply.Pack()
}
