//go:build unix

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/clientcert"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

// The hosts of AWS in eu-west-1.
const (
	ssmHost     = "ssm.eu-west-1.amazonaws.com"
	gatewayHost = "ssmmessages.eu-west-1.amazonaws.com"
)

// httpProxy is an HTTP proxy with a password, which connects to the hosts that it knows.
type httpProxy struct {
	url     string // with the password
	address string

	mu        sync.Mutex
	hosts     map[string]string // addresses by host:port
	connected []string          // host:port
	tunnels   []net.Conn        // to the hosts
}

// startHTTPProxy starts one.
func startHTTPProxy(t *testing.T, hosts map[string]string) *httpProxy {
	t.Helper()
	p := &httpProxy{hosts: hosts}
	user := "jane:" + newSecret("a password of an HTTP proxy")
	listener := listenTCP(t)
	p.address = listener.Addr().String()
	p.url = "http://" + user + "@" + p.address
	noteSecret("a password of an HTTP proxy", base64.StdEncoding.EncodeToString([]byte(user)))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(user)) {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		p.connect(w, r)
	})}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	t.Cleanup(func() { server.Close() })
	return p
}

// connect serves CONNECT.
func (p *httpProxy) connect(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.connected = append(p.connected, r.Host)
	address := p.hosts[r.Host]
	p.mu.Unlock()
	if r.Method != http.MethodConnect || address == "" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	server, err := net.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		server.Close()
		return
	}
	p.mu.Lock()
	p.tunnels = append(p.tunnels, server)
	p.mu.Unlock()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n") // fails if the client has gone
	pipe(client, server)
}

// set replaces the address of a host, and closes all connections. Empty: the proxy refuses it.
func (p *httpProxy) set(host, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts[host] = address
	for _, server := range p.tunnels {
		server.Close()
	}
	p.tunnels = nil
}

// named is a listener with the name of a host.
type named struct {
	net.Listener
	name string
}

func (n named) Addr() net.Addr { return nameAddr(n.name) }

type nameAddr string

func (nameAddr) Network() string  { return "tcp" }
func (n nameAddr) String() string { return string(n) }

// issueFor returns the TLS configuration of a server with these names, and the file of its CA.
func issueFor(t *testing.T, names ...string) (config *tls.Config, caFile string) {
	t.Helper()
	ca := issue(t, nil, clientcert.CA("test"))
	pair := issue(t, ca, &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, caFile, clientcert.Encode(ca))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{pair.Certificate.Raw}, PrivateKey: pair.Key}}}, caFile
}

// HTTPS_PROXY, with a password, and AWS_CA_BUNDLE apply to the API and to the WebSocket.
func testSSMThroughHTTPProxy(t *testing.T, cluster *aurora.Cluster) {
	config, caFile := issueFor(t, ssmHost, gatewayHost)
	listener := listenTCP(t)
	gateway := listener.Addr().String()
	s := startSessionManager(t, cluster, &fakessm.Gateway{Listener: named{listener, gatewayHost + ":443"}, TLS: config})
	front := listenTCP(t)
	go acceptForwarded(tls.NewListener(front, config), strings.TrimPrefix(s.aws.URL(), "http://"))
	proxy := startHTTPProxy(t, map[string]string{ssmHost + ":443": front.Addr().String(), gatewayHost + ":443": gateway})
	s.env = append(s.env, "AWS_ENDPOINT_URL_SSM=https://"+ssmHost+"/ssm", "HTTPS_PROXY="+proxy.url, "AWS_CA_BUNDLE="+caFile)
	p := startProxy(t, s.env, s.proxyArgs("--connect-timeout=3s", "--pprof")...)
	if out := p.mustPSQL(aurora.IAMUser, aurora.Database, isTLS); out != "t" {
		t.Errorf("psql printed %q", out)
	}
	for _, path := range []string{"/", "/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1"} {
		p.get(path)
	}
	s.gateway.Bye()
	until(t, "the session to be resumed", func() bool { return s.gateway.Counts().Resumed == 1 })
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	proxy.mu.Lock()
	for _, host := range []string{ssmHost, gatewayHost} {
		if !slices.Contains(proxy.connected, host+":443") {
			t.Errorf("the proxy was not asked for %s", host)
		}
	}
	proxy.mu.Unlock()

	through := ` through the HTTP proxy "` + proxy.address + `" (HTTPS_PROXY): `
	for name, test := range map[string]struct {
		hosts  map[string]string
		faults fakessm.Faults
		want   ssmFailure
	}{
		"proxy refuses the gateway": {map[string]string{gatewayHost: ""}, fakessm.Faults{},
			ssmFailure{"", pgwire.SSMUnreachable, "could not reach " + gatewayHost + through + "Forbidden", "lets this host connect to " + gatewayHost}},
		"proxy refuses the API": {map[string]string{ssmHost: ""}, fakessm.Faults{},
			ssmFailure{"", pgwire.SSMUnreachable, ssmHost + through + "Forbidden", "endpoints ssm and ssmmessages"}},
		"proxy refuses WebSockets": {nil, fakessm.Faults{RefuseUpgrade: http.StatusBadRequest},
			ssmFailure{"", pgwire.SSMUnreachable, gatewayHost + " answered the request for a WebSocket with status 400", "NO_PROXY=" + gatewayHost}},
	} {
		s.endSession(p)
		s.gateway.SetFaults(test.faults)
		for host, address := range test.hosts {
			proxy.set(host+":443", address)
		}
		out, err := p.psql(aurora.IAMUser, aurora.Database, "select 1")
		if err == nil {
			t.Errorf("%s: psql got in", name)
		}
		test.want.wantIn(t, name, out)
		test.want.check(t, s)
		proxy.set(ssmHost+":443", front.Addr().String())
		proxy.set(gatewayHost+":443", gateway)
		s.gateway.SetFaults(fakessm.Faults{})
		p.awaitSession()
	}
}
