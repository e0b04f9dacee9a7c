//go:build linux

package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/clientcert"
	"github.com/iamproxy/iamproxy/test/container"
)

// sharedName is the name in the certificate of the shared proxy.
const sharedName = "iamproxy.internal"

// fleet is the service of shared.yaml: its tasks behind a load balancer, and the database.
type fleet struct {
	t       *testing.T
	shared  *shared
	binary  string
	cluster *aurora.Cluster
	servers *clientcert.Pair // CA of the tasks' certificate
	clients *clientcert.Pair // CA of the clients' certificates
	secrets map[string]string
	*balancer
}

// task is a running task.
type task struct {
	*container.Process
	network container.Network
	address string
}

func newFleet(t *testing.T, change ...string) *fleet {
	t.Helper()
	t.Setenv("CGO_ENABLED", "0") // the container has no library of C
	text := strings.NewReplacer(change...).Replace(readShared(t))
	s, err := parseShared([]byte(text), sharedValues)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, shared: s, binary: container.Build(t, "../../..", "./cmd/iamproxy"), cluster: &aurora.Cluster{}, balancer: newBalancer(t, s.group)}
	if err := f.cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.cluster.Close() })
	f.servers, f.clients = f.issue(nil, clientcert.CA("servers")), f.issue(nil, clientcert.CA("clients"))
	leaf := clientcert.Named(sharedName)
	leaf.DNSNames = []string{sharedName}
	dir := t.TempDir()
	if err := f.issue(f.servers, leaf).Write(dir); err != nil {
		t.Fatal(err)
	}
	f.secrets = map[string]string{
		"certificate": f.read(filepath.Join(dir, clientcert.CertFile)),
		"key":         f.read(filepath.Join(dir, clientcert.KeyFile)),
		"clients":     string(clientcert.Encode(f.clients)),
	}
	return f
}

func (f *fleet) issue(ca *clientcert.Pair, template *x509.Certificate) *clientcert.Pair {
	f.t.Helper()
	pair, err := clientcert.Issue(ca, template)
	if err != nil {
		f.t.Fatal(err)
	}
	return pair
}

func (f *fleet) read(file string) string {
	f.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// start runs the containers of a task with further variables, and registers it.
func (f *fleet) start(variables ...string) task {
	f.t.Helper()
	network := container.NewNetwork(f.t)
	volume := mount(f.t, "tmpfs", "tmpfs", 0, "mode=0755")

	definition := *containerNamed(f.shared.task, "certificates")
	for _, secret := range definition.Secrets {
		definition.Environment = append(definition.Environment, types.KeyValuePair{Name: secret.Name, Value: aws.String(f.secrets[*secret.Name])})
	}
	writer := containerOf(f.t, &definition, volume, container.Tools())
	writer.Args = definition.Command
	writer.Env = append(writer.Env, "PATH=/usr/bin")
	if out, err := container.Run(writer.Command(f.t, network)); err != nil {
		f.t.Fatalf("certificates: %v %s", err, out)
	}

	address := f.connectTarget(network)
	ca := filepath.Join(f.t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(f.read(f.cluster.CAFile())), 0o644); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(ca), 0o755); err != nil {
		f.t.Fatal(err)
	}
	c := containerNamed(f.shared.task, "iamproxy")
	proxy := containerOf(f.t, c, volume, map[string]string{"/iamproxy": f.binary, "/ca.pem": ca})
	proxy.Args = append([]string{"/iamproxy"}, c.Command...)
	proxy.Env = append(proxy.Env, "IAMPROXY_VIA="+network.Relay(f.t, f.cluster.Addr()), "IAMPROXY_CA_FILE=/ca.pem")
	proxy.Env = append(variables, proxy.Env...) // the first one counts
	started := task{container.Start(f.t, proxy.Command(f.t, network)), network, address}
	f.register(address)
	return started
}

// clientHost is a host with a client certificate.
type clientHost struct {
	network container.Network
	address string
	env     []string
}

// client connects a host whose certificate names a user.
func (f *fleet) client(name string) clientHost {
	f.t.Helper()
	dir := f.t.TempDir()
	if err := f.issue(f.clients, clientcert.Named(name)).Write(dir); err != nil {
		f.t.Fatal(err)
	}
	root := filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, clientcert.Encode(f.servers), 0o600); err != nil {
		f.t.Fatal(err)
	}
	c := clientHost{network: container.NewNetwork(f.t)}
	var gateway string
	c.address, gateway = f.connect(c.network)
	c.env = append(os.Environ(), "PGHOST="+sharedName, "PGHOSTADDR="+gateway, "PGPORT=5432", "PGUSER="+aurora.IAMUser, "PGDATABASE="+aurora.Database,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT="+root,
		"PGSSLCERT="+filepath.Join(dir, clientcert.CertFile), "PGSSLKEY="+filepath.Join(dir, clientcert.KeyFile))
	return c
}

func (c clientHost) psql(args ...string) *exec.Cmd {
	return c.network.Command(c.env, "psql", append([]string{"-Xwqt"}, args...)...)
}

// query runs a query in a session of its own.
func (c clientHost) query(sql string) (string, error) { return container.Run(c.psql("-c", sql)) }

// session is an open session of psql.
type session struct {
	t      *testing.T
	input  io.WriteCloser
	output *bufio.Scanner
	cmd    *exec.Cmd
}

func (c clientHost) open(t *testing.T) *session {
	t.Helper()
	s := &session{t: t, cmd: c.psql("-A")}
	output, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.input, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	s.output = bufio.NewScanner(output)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	return s
}

// query sends a query, and returns the first line of its result.
func (s *session) query(sql string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.input, sql); err != nil {
		s.t.Fatal(err)
	}
	if !s.output.Scan() {
		s.t.Fatalf("%s: the session has ended", sql)
	}
	return s.output.Text()
}

// close ends the session.
func (s *session) close() {
	s.t.Helper()
	s.input.Close()
	if err := s.cmd.Wait(); err != nil {
		s.t.Error(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

// startQuery starts a long query in psql. It returns functions that interrupt psql, and that wait for
// its output.
func (f *fleet) startQuery(c clientHost) (interrupt func(), wait func() string) {
	f.t.Helper()
	admin, err := f.cluster.Admin(f.t.Context(), aurora.Database)
	if err != nil {
		f.t.Fatal(err)
	}
	defer admin.Close(context.Background())
	cmd := c.psql("-c", "select pg_sleep(600)")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	f.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	until(f.t, "query", func() bool {
		var running int
		err := admin.QueryRow(f.t.Context(), "select count(*) from pg_stat_activity where state = 'active' and query = 'select pg_sleep(600)'").Scan(&running)
		return err == nil && running == 1
	})
	interrupt = func() { _ = cmd.Process.Signal(os.Interrupt) }
	return interrupt, func() string {
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
		}
		return out.String()
	}
}
