package ssm_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestSigned(t *testing.T) {
	var authorization, token atomic.Value
	w := start(t, func(w *world) {
		w.gateway.Authorize = func(r *http.Request, _ string) error {
			authorization.Store(r.Header.Get("Authorization"))
			token.Store(r.Header.Get("X-Amz-Security-Token"))
			return nil
		}
	})
	w.echo(w.dial(), 100)
	if got := authorization.Load().(string); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIAJANE/") || !strings.Contains(got, "/us-east-2/ssmmessages/aws4_request") || token.Load() != "SESSION" {
		t.Errorf("got %q, %v", got, token.Load())
	}
}

// The WebSocket uses the roots and the proxy of the SDK's HTTP client, which prefers HTTP/2.
func TestHTTPClient(t *testing.T) {
	authority := httptest.NewUnstartedServer(nil)
	authority.StartTLS()
	defer authority.Close()
	roots := x509.NewCertPool()
	roots.AddCert(authority.Certificate())
	var proxied atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, password, _ := parseProxyAuth(r); password != "hunter2" || r.Method != http.MethodConnect {
			rw.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		proxied.Add(1)
		upstream, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer upstream.Close()
		client, buffered, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n") //nolint:errcheck // the client notices
		go io.Copy(upstream, buffered)                    //nolint:errcheck // likewise
		io.Copy(client, upstream)                         //nolint:errcheck // likewise
	}))
	defer proxy.Close()
	w := start(t, func(w *world) {
		w.AllowHTTP = false
		w.gateway.TLS = &tls.Config{Certificates: authority.TLS.Certificates}
		config := w.Config
		client := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.TLSClientConfig.RootCAs = roots
			tr.Proxy = func(*http.Request) (*url.URL, error) {
				return url.Parse(strings.Replace(proxy.URL, "://", "://jane:hunter2@", 1))
			}
		})
		w.Config = func(ctx context.Context) (aws.Config, error) {
			c, err := config(ctx)
			c.HTTPClient = client
			return c, err
		}
	})
	w.echo(w.dial(), 1000)
	w.gateway.Cut()
	w.echo(w.dial(), 1000)
	if proxied.Load() != 2 {
		t.Errorf("%d connections through the proxy", proxied.Load())
	}
}

func parseProxyAuth(r *http.Request) (user, password string, ok bool) {
	return (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
}

// Stop does not wait for what does not answer.
func TestStopWithoutAnswer(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(w *world){
		"gateway": func(w *world) { w.gateway.SetFaults(fakessm.Faults{Up: fakessm.Loss{Lose: 1}}) },
		"API":     func(w *world) { w.api.silent.Store(true) },
		"outage": func(w *world) {
			w.api.silent.Store(true)
			w.gateway.Cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			w.echo(w.dial(), 10)
			silence(w)
			w.Stop()
			w.gateway.EndSessions("")
		})
	}
}

// relay forwards connections. While it is down, it neither forwards nor closes any; those of that
// time stay dead.
type relay struct {
	down atomic.Bool
	lost atomic.Int64 // reads whose bytes were dropped
}

func (r *relay) start(t *testing.T, to string) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var conns sync.Map
	t.Cleanup(func() {
		listener.Close()
		conns.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
		running.Wait()
	})
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Store(near, nil)
			if r.down.Load() {
				continue
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			conns.Store(far, nil)
			var dead atomic.Bool
			for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
				running.Go(func() {
					b := make([]byte, 64<<10)
					for {
						n, err := ends[0].Read(b)
						if r.down.Load() {
							dead.Store(true)
							r.lost.Add(1)
						}
						if err == nil && !dead.Load() {
							_, err = ends[1].Write(b[:n])
						}
						if err != nil {
							ends[1].Close()
							return
						}
					}
				})
			}
		}
	})
	return listener.Addr().String()
}

// A session survives a network in which connections die without a word.
func TestSilentNetwork(t *testing.T) {
	t.Parallel()
	r := &relay{}
	w := start(t, func(w *world) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.gateway.Listener = listener
		w.api.relay = r.start(t, listener.Addr().String())
	})
	conn := w.dial()
	for _, outage := range []time.Duration{0, 2 * time.Second} {
		w.echo(w.dial(), 10000)
		lost := r.lost.Load()
		r.down.Store(true)
		w.request(conn, 'e', 0)
		w.until("lost bytes", func() bool { return r.lost.Load() > lost })
		time.Sleep(outage)
		r.down.Store(false)
		began := time.Now()
		w.echo(w.dial(), 10000)
		t.Logf("after %v: %v", outage, time.Since(began))
	}
	if n := w.Status().Resumes; n < 2 {
		t.Errorf("%d resumes", n)
	}
}
