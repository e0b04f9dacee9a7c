package ssm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
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
	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	node     = "i-0123456789abcdef0"
	database = "db.example.com"
	limit    = 2 * time.Minute // of a test that hangs
)

// api is the API of Systems Manager in front of a gateway.
type api struct {
	gateway *fakessm.Gateway
	id      atomic.Int64
	silent  atomic.Bool // requests hang
	relay   string      // if set, the address that replaces the gateway's

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
	if a.relay != "" {
		url = strings.Replace(url, strings.TrimPrefix(a.gateway.URL(), "ws://"), a.relay, 1)
	}
	return ssm.Session{ID: id, Target: in.Target.ID, StreamURL: url, Token: token}, nil
}

func (a *api) ResumeSession(ctx context.Context, id string) (ssm.Session, error) {
	if a.silent.Load() {
		<-ctx.Done()
		return ssm.Session{}, ctx.Err()
	}
	url, token := a.gateway.Resume(id)
	if a.relay != "" {
		url = "" // as it was
	}
	return ssm.Session{ID: id, StreamURL: url, Token: token}, nil
}

func (a *api) TerminateSession(ctx context.Context, id string) error {
	if a.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
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
		w.Stop()
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
	return conntest.Serve(w.t, w.serveConn)
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
