//go:build unix

package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakedns"
)

// A CNAME is resolved for the suggestion only.
func TestCNAME(t *testing.T) {
	t.Parallel()
	m := newMovingName(t, "db.example.com")
	m.leadTo(aurora.DefaultHost)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"db.example.com", "--listen=127.0.0.1:0"}, "'" + aurora.DefaultHost + ":5432?via=db.example.com:5432'"},
		{[]string{"DB.example.com:6000?via=10.0.0.1:7000"}, "'" + aurora.DefaultHost + ":6000?via=10.0.0.1:7000'"},
		{[]string{"db.example.com", "--via=exec:ssh {port}"}, "with the same --via: " + aurora.DefaultHost + ":5432\n"},
		{[]string{"token", "db.example.com", "--user=u"}, "'" + aurora.DefaultHost + ":5432?via=db.example.com:5432'"},
		{[]string{"other.example.com"}, "not a name that AWS assigned to a database. Pass the name"},
	} {
		cmd := m.command(binaryPath(t), test.args...)
		cmd.Env = keyEnvironment(aurora.DefaultKey)
		out, err := combinedOutput(t, cmd)
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), test.want) || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("%s: %v, %s, want %s", test.args, err, out, test.want)
		}
	}
}

// movingName is a name in a separate DNS zone, for processes with its resolv.conf.
type movingName struct {
	name       string
	resolvConf string

	mu      sync.Mutex
	address [4]byte
	alias   string // the target of a CNAME; empty: none
}

// withResolvConf runs a program with $0 as its /etc/resolv.conf.
const withResolvConf = `mount --bind "$0" /etc/resolv.conf && exec "$@"`

func newMovingName(t *testing.T, name string) *movingName {
	t.Helper()
	const server = "127.94.0.53" // an unused loopback address
	m := &movingName{name: name, resolvConf: filepath.Join(t.TempDir(), "resolv.conf")}
	if err := os.WriteFile(m.resolvConf, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := m.command("true").CombinedOutput(); err != nil {
		t.Skipf("this account, or root of this container, mounts nothing: %v: %s", err, bytes.TrimSpace(out))
	}
	conn, err := fakedns.Start(server+":53", m.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return m
}

// command returns a command for which the name resolves.
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

func (m *movingName) answer(question dnsmessage.Question) ([]dnsmessage.Resource, dnsmessage.RCode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var record dnsmessage.ResourceBody
	switch {
	case question.Name.String() != m.name+".":
		return nil, dnsmessage.RCodeNameError
	case m.alias != "":
		record = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(m.alias + ".")}
	case question.Type == dnsmessage.TypeA:
		record = &dnsmessage.AResource{A: m.address}
	default: // no other records
		return nil, dnsmessage.RCodeSuccess
	}
	return []dnsmessage.Resource{{Header: fakedns.Header(question.Name), Body: record}}, dnsmessage.RCodeSuccess
}
