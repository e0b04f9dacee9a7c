package ssm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	node     = "i-0123456789abcdef0"
	database = "db.example.com"
	limit    = 30 * time.Second // of a test that hangs
)

// api is the API of Systems Manager in front of a gateway.
type api struct {
	gateway *fakessm.Gateway
	id      atomic.Int64

	mu       sync.Mutex
	started  []ssm.StartInput
	secrets  []string
	startErr error
}

func (a *api) StartSession(_ context.Context, in ssm.StartInput) (ssm.Session, error) {
	a.mu.Lock()
	a.started = append(a.started, in)
	a.mu.Unlock()
	if a.startErr != nil {
		return ssm.Session{}, a.startErr
	}
	id := "jane-" + string(rune('a'+a.id.Add(1)))
	first := func(name string) string { return append(in.Parameters[name], "")[0] }
	url, token := a.gateway.Open(fakeaws.Session{ID: id, Target: in.Target.ID, Document: in.Document, Host: first("host"), Port: first("portNumber")})
	return ssm.Session{ID: id, Target: in.Target.ID, StreamURL: url, Token: token}, nil
}

func (a *api) ResumeSession(_ context.Context, id string) (ssm.Session, error) {
	url, token := a.gateway.Resume(id)
	return ssm.Session{ID: id, StreamURL: url, Token: token}, nil
}

func (a *api) TerminateSession(_ context.Context, id string) error {
	a.gateway.Terminate(id)
	return nil
}

// world is a started Forward to a server through a gateway.
type world struct {
	*ssm.Forward
	t       testing.TB
	api     *api
	gateway *fakessm.Gateway
	logs    *observer.ObservedLogs
	// held is closed by the test to let the server read and write on.
	held chan struct{}
}

func start(t testing.TB, change func(*world)) *world {
	t.Helper()
	w := &world{t: t, held: make(chan struct{})}
	w.api = &api{}
	w.gateway = &fakessm.Gateway{Agent: fakessm.Agent{NoSleep: true, Routes: map[string]string{database: w.serve()}}, Issued: func(secret string) {
		w.api.mu.Lock()
		defer w.api.mu.Unlock()
		w.api.secrets = append(w.api.secrets, secret)
	}}
	w.api.gateway = w.gateway
	core, logs := observer.New(zapcore.DebugLevel)
	w.logs = logs
	w.Forward = &ssm.Forward{
		Name: "ssm://" + node, Target: ssm.Target{ID: node}, Host: database, Port: "5432", API: w.api, AllowHTTP: true, Log: zap.New(core),
		Config: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "us-east-2", Credentials: credentials.NewStaticCredentialsProvider("AKIAJANE", "SECRET", "SESSION")}, nil
		},
	}
	if change != nil {
		change(w)
	}
	if err := w.gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		began := time.Now()
		w.Stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Stop took %v", took)
		}
		if n := w.gateway.Counts().OpenSessions; n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if err := w.gateway.Close(); err != nil {
			t.Error(err)
		}
		w.checkSecrets()
	})
	w.Start()
	return w
}

// checkSecrets checks that the log has no secret.
func (w *world) checkSecrets() {
	for _, entry := range w.logs.All() {
		encoded, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			w.t.Error(err)
		}
		for _, secret := range w.api.secrets {
			if strings.Contains(encoded.String(), secret) {
				w.t.Errorf("the log has a secret: %s", encoded)
			}
		}
	}
}

// serve runs a server. A client sends a command, and how many bytes: echo, discard (the server
// returns their SHA-256), send, hold (the server does not read until held is closed).
func (w *world) serve() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go w.serveConn(conn)
		}
	}()
	return listener.Addr().String()
}

func (w *world) serveConn(conn net.Conn) {
	defer conn.Close()
	var request [9]byte
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return
	}
	size := int64(binary.BigEndian.Uint64(request[1:]))
	switch request[0] {
	case 'e':
		io.Copy(conn, io.LimitReader(conn, size)) //nolint:errcheck // the client notices
		io.Copy(io.Discard, conn)                 //nolint:errcheck // until the client closes
	case 'd':
		hash := sha256.New()
		io.CopyN(hash, conn, size) //nolint:errcheck // the client notices
		conn.Write(hash.Sum(nil))  //nolint:errcheck // likewise
	case 's':
		io.CopyN(conn, zeros{}, size) //nolint:errcheck // likewise
		<-w.held
	case 'h':
		<-w.held
		io.Copy(io.Discard, conn) //nolint:errcheck // until the client closes
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	conn, err := w.Dial(ctx, "tcp", "ignored:1")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(limit))
	return conn
}

func (w *world) request(conn net.Conn, command byte, size int) {
	w.t.Helper()
	if _, err := conn.Write(binary.BigEndian.AppendUint64([]byte{command}, uint64(size))); err != nil {
		w.t.Fatal(err)
	}
}

// echo sends random bytes and reads them back.
func (w *world) echo(conn net.Conn, size int) {
	w.t.Helper()
	w.request(conn, 'e', size)
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size)})
	random.Read(data) //nolint:errcheck // has no error
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := conn.Write(data); err != nil {
			w.t.Error(err)
		}
	})
	got := make([]byte, size)
	if n, err := io.ReadFull(conn, got); err != nil {
		w.t.Errorf("%d bytes, then %v", n, err)
	}
	sending.Wait()
	if !bytes.Equal(got, data) {
		w.t.Error("bytes were altered")
	}
}

// until waits for a condition.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not in time; %+v, %+v", what, w.Status(), w.gateway.Counts())
		}
	}
}

func TestEcho(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	w.echo(conn, 1<<20)
	status := w.Status()
	if status.State != ssm.Open || status.Target != node || status.Agent != fakessm.DefaultVersion || status.SessionID != "jane-b" ||
		status.Streams != 1 || status.Sessions != 1 || status.BytesIn < 1<<20 || status.BytesOut < 1<<20 || status.RoundTrip == 0 || status.Err != nil || status.Opened.IsZero() {
		t.Errorf("got %+v", status)
	}
	if conn.RemoteAddr().String() != database+":5432" || conn.LocalAddr().String() != node {
		t.Errorf("got %v, %v", conn.RemoteAddr(), conn.LocalAddr())
	}
	conn.Close()
	w.until("close", func() bool { return w.gateway.Counts().OpenStreams == 0 && w.Status().Streams == 0 })
	in := w.api.started[0]
	if in.Document != "AWS-StartPortForwardingSessionToRemoteHost" || in.Parameters["host"][0] != database || in.Parameters["portNumber"][0] != "5432" {
		t.Errorf("got %+v", in)
	}
}

// The session is opened before there is a client, and ended by a flag and by the API.
func TestStartAndStop(t *testing.T) {
	w := start(t, nil)
	w.until("open", func() bool { return w.Status().State == ssm.Open })
	conn := w.dial()
	w.Stop()
	if counts := w.gateway.Counts(); counts.Started != 1 || counts.Terminated != 1 {
		t.Errorf("got %+v", counts)
	}
	if _, err := conn.Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Read: %v", err)
	}
	if _, err := conn.Write([]byte("x")); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Write: %v", err)
	}
	if _, err := w.Dial(t.Context(), "tcp", ""); pgwire.ReasonOf(err) != pgwire.ShuttingDown {
		t.Errorf("Dial: %v", err)
	}
	if status := w.Status(); status.State != ssm.Closed || status.Err != nil {
		t.Errorf("got %+v", status)
	}
}

func TestLoopbackDocument(t *testing.T) {
	w := start(t, func(w *world) {
		w.Host = "localhost"
		w.gateway.Agent.Routes["localhost"] = w.gateway.Agent.Routes[database]
	})
	w.echo(w.dial(), 1000)
	if in := w.api.started[0]; in.Document != "AWS-StartPortForwardingSession" || in.Parameters["host"] != nil {
		t.Errorf("got %+v", in)
	}
}

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

func TestParallel(t *testing.T) {
	w := start(t, nil)
	w.gateway.SetFaults(fakessm.Faults{Up: fakessm.Loss{Lose: 50, Duplicate: 30, Reorder: 20}, Down: fakessm.Loss{Lose: 50, Duplicate: 30, Reorder: 20}})
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() { w.echo(w.dial(), 20<<10) })
	}
	clients.Wait()
	if n := w.gateway.Counts().Started; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// Connections survive lost WebSockets.
func TestCut(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	w.echo(w.dial(), 10)
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-done:
				return
			}
			if i%2 == 0 {
				w.gateway.Cut()
			} else {
				w.gateway.Bye()
			}
		}
	})
	for w.gateway.Counts().Resumed < 4 && !t.Failed() {
		c := w.dial()
		w.echo(c, 20<<10)
		c.Close()
	}
	close(done)
	cutting.Wait()
	w.echo(conn, 1000)
	w.until("resumed", func() bool { return w.Status().Resumes >= 4 && w.Status().State == ssm.Open })
}

// A session that the service has ended is opened again by the next client, not before.
func TestReopened(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"channel_closed": func(w *world) { w.gateway.EndSessions("idle") },
		"resume refused": func(w *world) {
			w.gateway.SetFaults(fakessm.Faults{RefuseResume: true})
			w.gateway.Bye()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			conn := w.dial()
			w.echo(conn, 10)
			end(w)
			if _, err := conn.Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.SSMSessionEnded {
				t.Errorf("got %v", err)
			}
			w.until("closed", func() bool { return w.Status().State == ssm.Closed })
			if status := w.Status(); status.Sessions != 1 || status.BytesIn == 0 || w.gateway.Counts().Started != 1 {
				t.Errorf("got %+v", status)
			}
			w.gateway.EndSessions("")
			w.gateway.SetFaults(fakessm.Faults{})
			w.echo(w.dial(), 10)
			if status := w.Status(); status.Sessions != 2 || status.State != ssm.Open {
				t.Errorf("got %+v", status)
			}
		})
	}
}

func TestConnectToPortError(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.Agent.Routes = map[string]string{database: "127.0.0.1:1"} })
	for range 3 {
		if _, err := w.dial().Read(make([]byte, 1)); pgwire.ReasonOf(err) != pgwire.SSMConnectFailed {
			t.Errorf("got %v", err)
		}
	}
	if w.Status().State != ssm.Open {
		t.Error("the session has ended")
	}
}

func TestNotOpened(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *world)
		want   pgwire.Reason
	}{
		"API":             {func(w *world) { w.api.startErr = errors.New("no answer") }, pgwire.SSMUnreachable},
		"old agent":       {func(w *world) { w.gateway.Agent.Version = "3.0.196.0" }, pgwire.SSMAgentUnsupported},
		"KMS":             {func(w *world) { w.gateway.Agent.KMSKey = "key" }, pgwire.SSMAgentUnsupported},
		"upgrade refused": {func(w *world) { w.gateway.SetFaults(fakessm.Faults{RefuseUpgrade: 403}) }, pgwire.SSMUnreachable},
		"no TLS":          {func(w *world) { w.AllowHTTP = false }, pgwire.SSMUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.change)
			_, err := w.Dial(t.Context(), "tcp", "")
			if pgwire.ReasonOf(err) != test.want {
				t.Fatalf("got %v", err)
			}
			if status, again := w.Open(t.Context()); again == nil || status.State != ssm.Closed || status.Err == nil {
				t.Errorf("got %+v, %v", status, again)
			}
			w.api.mu.Lock()
			defer w.api.mu.Unlock()
			if len(w.api.started) != 1 {
				t.Errorf("%d requests", len(w.api.started))
			}
		})
	}
}

// Agents before 3.1.1511 need a keep-alive.
func TestOlderAgent(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.Agent.Version = "3.1.1511.0" })
	w.echo(w.dial(), 10000)
}

func TestDialCanceled(t *testing.T) {
	w := start(t, func(w *world) { w.gateway.SetFaults(fakessm.Faults{Down: fakessm.Loss{Lose: 1}}) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Dial(ctx, "tcp", ""); pgwire.ReasonOf(err) != pgwire.SSMUnreachable {
		t.Errorf("got %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	past := time.Unix(1, 0)
	isTimeout := func(err error) bool { var e net.Error; return errors.As(err, &e) && e.Timeout() }
	w.request(conn, 'h', 0)
	var blocked sync.WaitGroup
	blocked.Go(func() {
		if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("Read: %v", err)
		}
	})
	blocked.Go(func() {
		if n, err := conn.Write(make([]byte, 64<<20)); !isTimeout(err) || n == 0 || n == 64<<20 {
			t.Errorf("Write: %d, %v", n, err)
		}
	})
	w.until("write", func() bool { return w.Status().BytesOut > 1<<20 })
	conn.SetDeadline(past)
	blocked.Wait()
	if _, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("Read after the deadline: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !isTimeout(err) {
		t.Errorf("Write after the deadline: %v", err)
	}
	conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	close(w.held)
}

// Bytes that were written before Close arrive.
func TestClose(t *testing.T) {
	w := start(t, nil)
	conn := w.dial()
	const size = 4 << 20
	w.request(conn, 'd', size)
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	w.until("bytes", func() bool { return w.gateway.Counts().BytesUp >= size && w.gateway.Counts().OpenStreams == 0 })
}

// A client that does not read fills the buffer. It is disconnected once others have waited for
// too long, and they go on.
func TestStuckClient(t *testing.T) {
	w := start(t, func(w *world) { w.SetStuck(1<<20, 2*time.Second) })
	stuck := w.dial()
	w.request(stuck, 's', 8<<20)
	w.until("full buffer", func() bool { return w.gateway.Counts().BytesDown > 3<<19 })
	w.echo(w.dial(), 100<<10)
	n, err := io.Copy(io.Discard, stuck)
	if pgwire.ReasonOf(err) == "" || n == 0 || n >= 8<<20 {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if w.Status().State != ssm.Open {
		t.Errorf("got %+v", w.Status())
	}
	close(w.held)
}

// A client that reads slowly, or late, stays if it holds up no other.
func TestLateReader(t *testing.T) {
	w := start(t, func(w *world) { w.SetStuck(1<<20, time.Second) })
	conn := w.dial()
	w.request(conn, 's', 4<<20)
	w.until("full buffer", func() bool { return w.gateway.Counts().BytesDown > 3<<19 })
	time.Sleep(2500 * time.Millisecond)
	if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Error(err)
	}
	close(w.held)
}

// BenchmarkUpload sends data to a server that returns its hash.
func BenchmarkUpload(b *testing.B) {
	w := start(b, nil)
	const size = 16 << 20
	data := make([]byte, size)
	b.SetBytes(size)
	for b.Loop() {
		conn := w.dial()
		w.request(conn, 'd', size)
		if _, err := conn.Write(data); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, sha256.Size)); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
}

// BenchmarkDownload receives data from an agent that does not pause.
func BenchmarkDownload(b *testing.B) {
	w := start(b, nil)
	const size = 16 << 20
	b.SetBytes(size)
	for b.Loop() {
		conn := w.dial()
		w.request(conn, 's', size)
		if _, err := io.CopyN(io.Discard, conn, size); err != nil {
			b.Fatal(err)
		}
		conn.Close()
	}
	close(w.held)
}

func TestManySessions(t *testing.T) {
	w := start(t, nil)
	for range 10 {
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() {
				conn := w.dial()
				w.echo(conn, 100)
				conn.Close()
			})
		}
		clients.Wait()
	}
	w.until("close", func() bool { return w.gateway.Counts().OpenStreams == 0 && w.Status().Streams == 0 })
}
