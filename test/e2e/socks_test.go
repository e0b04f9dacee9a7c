//go:build unix

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

const (
	socksUser     = "socks_user"
	socksPassword = "socks-pass:word@1" // needs escaping in a URL
)

// A SOCKS5 proxy on a bastion resolves the database's name, for sessions and for cancel
// requests.
func TestThroughSOCKS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, user, password string
		login                string // in --via
	}{
		{"without a password", "", "", ""},
		{"with a password", socksUser, socksPassword, "socks_user:socks-pass%3Aword%401@"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cluster := startCluster(t, &aurora.Cluster{})
			socks := startSOCKS(t, &socksServer{user: test.user, password: test.password, target: cluster.Addr()})
			p := startThrough(t, cluster, test.login+socks.address())
			if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isTLS); out != "t" {
				t.Errorf("psql printed %q", out)
			}
			if n := len(socks.asked()); n != 1 {
				t.Errorf("%d connections for a session", n)
			}
			testCancel(t, cluster, p)
			asked := socks.asked()
			if len(asked) != 5 { // two more sessions, and two cancel requests
				t.Errorf("%d connections, want 5", len(asked))
			}
			for _, name := range asked {
				if name != aurora.DefaultHost+":5432" {
					t.Errorf("it was asked for %q", name)
				}
			}
			if v := cluster.Verdicts(); len(v) != 3 {
				t.Errorf("%d verdicts", len(v))
			}
		})
	}
}

// startThrough starts a proxy that reaches the database through a SOCKS5 proxy. It must not
// resolve the database's name.
func startThrough(t *testing.T, cluster *aurora.Cluster, via string, more ...string) *process {
	t.Helper()
	args := []string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=socks5://" + via, "--ca-file=" + cluster.CAFile(), "--log-level=debug"}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append(args, more...)...)
	t.Cleanup(func() { // before that of startProxy, but after the logins
		for _, secret := range []string{socksPassword, "socks-pass", "not-it"} {
			if strings.Contains(p.logs(), secret) {
				t.Errorf("%q in the log: %s", secret, p.logs())
			}
		}
	})
	return p
}

// The client receives the answer of the SOCKS5 proxy.
func TestSOCKSRefuses(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	t.Cleanup(func() {
		if v := cluster.Verdicts(); len(v) != 0 {
			t.Errorf("verdicts %+v", v)
		}
	})
	for _, test := range []struct {
		name   string
		server *socksServer
		login  string
		code   string
		hint   string
	}{
		{"to connect", &socksServer{refuse: socksNotAllowed}, "", "08001", "user, password and rules"},
		{"the database's name", &socksServer{refuse: socksHostUnreachable}, "", "57P03", "could not reach the database"},
		{"a wrong password", &socksServer{user: socksUser, password: socksPassword}, "socks_user:not-it@", "08001", "user, password and rules"},
		{"a client without a password", &socksServer{user: socksUser, password: socksPassword}, "", "08001", "user, password and rules"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.server.target = cluster.Addr()
			socks := startSOCKS(t, test.server)
			p := startThrough(t, cluster, test.login+socks.address(), "--connect-timeout=3s")
			refused := p.refused(aurora.IAMUser, aurora.Database)
			if refused.Code != test.code || !strings.Contains(refused.Message, aurora.DefaultHost+":5432 (via socks5://"+socks.address()+")") || !strings.Contains(refused.Hint, test.hint) {
				t.Errorf("got %s: %s; %s", refused.Code, refused.Message, refused.Hint)
			}
			t.Logf("told: %s", refused.Message)
			for _, text := range []string{refused.Message, refused.Hint} {
				if strings.Contains(text, "not-it") || strings.Contains(text, socksUser) {
					t.Errorf("told the proxy's login: %s", text)
				}
			}
		})
	}
}

// The replies of RFC 1928, section 6.
const (
	socksSucceeded       = 0
	socksNotAllowed      = 2
	socksHostUnreachable = 4
	socksNotSupported    = 8
)

// socksServer is a SOCKS5 proxy (RFC 1928) that resolves one name.
type socksServer struct {
	user, password string // empty: no authentication; else RFC 1929
	target         string // the address of aurora.DefaultHost
	refuse         byte   // the reply to requests; 0: they succeed

	listener net.Listener
	mu       sync.Mutex
	names    []string // requested names, or violations
}

func startSOCKS(t *testing.T, s *socksServer) *socksServer {
	t.Helper()
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listener.Close() })
	go func() {
		for {
			client, err := s.listener.Accept()
			if err != nil {
				return
			}
			go s.serve(client)
		}
	}()
	return s
}

func (s *socksServer) address() string { return s.listener.Addr().String() }

// asked returns the requests so far.
func (s *socksServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

func (s *socksServer) serve(client net.Conn) {
	defer client.Close()
	if s.greet(client) != nil {
		return
	}
	name, err := s.readRequest(client)
	s.mu.Lock()
	s.names = append(s.names, name)
	s.mu.Unlock()
	answer := s.refuse
	var server net.Conn
	switch {
	case err != nil:
		answer = socksNotSupported
	case answer == socksSucceeded:
		if server, err = net.Dial("tcp", s.target); err != nil {
			answer = socksHostUnreachable
		}
	}
	// The bound address may be anything.
	if _, err := client.Write([]byte{5, answer, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil || server == nil {
		return
	}
	pipe(client, server)
}

// pipe copies in both directions until one side ends.
func pipe(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			a.Close()
			b.Close()
		})
	}
	both.Wait()
}

// greet negotiates the authentication method, and authenticates the client.
func (s *socksServer) greet(client net.Conn) error {
	const none, password, unacceptable = 0, 2, 255
	methods, err := readCounted(client, 5)
	if err != nil {
		return err
	}
	method := byte(none)
	if s.user != "" {
		method = password
	}
	if !slices.Contains(methods, method) {
		_, _ = client.Write([]byte{5, unacceptable})
		return errors.New("no method in common")
	}
	if _, err := client.Write([]byte{5, method}); err != nil || method == none {
		return err
	}
	user, err := readCounted(client, 1)
	if err != nil {
		return err
	}
	given, err := readCounted(client, -1)
	switch {
	case err != nil:
		return err
	case string(user) != s.user || string(given) != s.password:
		_, _ = client.Write([]byte{1, 1})
		return errors.New("wrong password")
	}
	_, err = client.Write([]byte{1, 0})
	return err
}

// readCounted reads bytes after their count, and before it a version unless that is
// negative.
func readCounted(client net.Conn, version int) ([]byte, error) {
	head := make([]byte, 2)
	if version < 0 {
		head = head[:1]
	}
	if _, err := io.ReadFull(client, head); err != nil {
		return nil, err
	}
	if version >= 0 && int(head[0]) != version {
		return nil, fmt.Errorf("version %d", head[0])
	}
	b := make([]byte, head[len(head)-1])
	_, err := io.ReadFull(client, b)
	return b, err
}

// readRequest returns the requested host:port. The host must be a name: an address would
// have been resolved by iamproxy.
func (s *socksServer) readRequest(client net.Conn) (string, error) {
	const connect, domainName = 1, 3
	head := make([]byte, 4)
	if _, err := io.ReadFull(client, head); err != nil {
		return "", err
	}
	if head[0] != 5 || head[1] != connect || head[3] != domainName {
		return fmt.Sprintf("a request that begins with %v", head), errors.New("not supported")
	}
	host, err := readCounted(client, -1)
	if err != nil {
		return "", err
	}
	port := make([]byte, 2)
	if _, err := io.ReadFull(client, port); err != nil {
		return "", err
	}
	name := net.JoinHostPort(string(host), strconv.Itoa(int(binary.BigEndian.Uint16(port))))
	if name != aurora.DefaultHost+":5432" {
		return name, errors.New("no such host")
	}
	return name, nil
}
