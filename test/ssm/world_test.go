package ssm_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/iamproxy/iamproxy/test/conntest"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/fakessm"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

const (
	region   = "eu-west-1"
	target   = "i-0123456789abcdef0"
	database = "db.example.com"
)

var key = sigv4.Key{AccessKeyID: "AKIAJANE", SecretAccessKey: "jane's secret"}

// world is AWS with one managed node, which forwards to a server.
type world struct {
	aws     *fakeaws.AWS
	gateway *fakessm.Gateway
}

func newWorld(t testing.TB, agent fakessm.Agent) *world {
	t.Helper()
	agent.Routes = map[string]string{database: conntest.Serve(t, serveCommands)}
	w := &world{gateway: &fakessm.Gateway{Agent: agent}}
	w.aws = &fakeaws.AWS{Gateway: w.gateway}
	w.gateway.Authorize = w.aws.AuthorizeOpenDataChannel
	w.aws.AddKey(key, "arn:aws:iam::111122223333:user/jane")
	w.aws.Allow(fakeaws.Everyone, "ssm:*", "ssmmessages:OpenDataChannel")
	w.aws.AddNode(fakeaws.Node{ID: target, AgentVersion: agent.Version})
	for _, server := range []interface {
		Start() error
		Close() error
	}{w.gateway, w.aws} {
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// startSession starts a session with the SDK.
func (w *world) startSession(t testing.TB) *ssm.StartSessionOutput {
	t.Helper()
	client := ssm.New(ssm.Options{Region: region, BaseEndpoint: aws.String(w.aws.URL() + "/ssm"),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")})
	session, err := client.StartSession(t.Context(), &ssm.StartSessionInput{
		Target: aws.String(target), DocumentName: aws.String("AWS-StartPortForwardingSessionToRemoteHost"),
		Parameters: map[string][]string{"host": {database}, "portNumber": {"5432"}}})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// environment is that of the clients.
func environment(home string) []string {
	return []string{"HOME=" + home, "TMPDIR=" + home, "AWS_ACCESS_KEY_ID=" + key.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + key.SecretAccessKey,
		"AWS_CONFIG_FILE=" + filepath.Join(home, "config"), "AWS_EC2_METADATA_DISABLED=true"}
}

// plugin starts a session and AWS's plugin, and returns the address that it listens on.
func (w *world) plugin(t testing.TB) (address string, plugin *process) {
	t.Helper()
	program := os.Getenv("SESSION_MANAGER_PLUGIN")
	if program == "" {
		t.Skip("make ssm sets SESSION_MANAGER_PLUGIN to the plugin that it compiles")
	}
	session := w.startSession(t)
	response, _ := json.Marshal(map[string]*string{"SessionId": session.SessionId, "StreamUrl": session.StreamUrl, "TokenValue": session.TokenValue})
	request, _ := json.Marshal(map[string]string{"Target": target})
	cmd := exec.Command(program, string(response), region, "StartSession", "", string(request), w.aws.URL()+"/ssm")
	cmd.Env = environment(t.TempDir())
	return startProcess(t, cmd)
}

// process is a client that listens on a port.
type process struct {
	cmd  *exec.Cmd
	once sync.Once
}

// portOpened is the line of AWS's plugin once it listens.
var portOpened = regexp.MustCompile(`^Port ([0-9]+) opened for sessionId`)

// startProcess starts a client, and returns the address that it listens on.
func startProcess(t testing.TB, cmd *exec.Cmd) (address string, p *process) {
	t.Helper()
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p = &process{cmd: cmd}
	t.Cleanup(p.stop)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if match := portOpened.FindStringSubmatch(lines.Text()); match != nil {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return "localhost:" + match[1], p
		}
	}
	t.Fatalf("%s has ended", cmd.Path)
	return "", nil
}

// stop ends the process, and waits for it.
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// serveCommands serves three commands, each with a number of bytes: up answers their
// SHA-256, down sends them, and echo returns them.
func serveCommands(conn net.Conn) {
	defer conn.Close()
	for {
		var command string
		var n int64
		if _, err := fmt.Fscanf(conn, "%s %d\n", &command, &n); err != nil {
			return // the client has ended
		}
		switch command {
		case "up":
			hash := sha256.New()
			_, _ = io.CopyN(hash, conn, n)
			_, _ = conn.Write(hash.Sum(nil))
		case "down":
			_, _ = conn.Write(data(n))
		case "echo":
			_, _ = io.CopyN(conn, conn, n)
		}
	}
}

// data returns n bytes that are the same each time, without a newline: AWS's plugin changes
// some.
func data(n int64) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + random.IntN(200))
	}
	return b
}

// transfer sends n bytes each way through a connection, and checks them.
func transfer(conn net.Conn, n int64) error {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	sent := data(n)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = fmt.Fprintf(conn, "echo %d\n", n)
		_, _ = conn.Write(sent) // a failure ends the reader
	})
	defer wg.Wait()
	received := make([]byte, n)
	if _, err := io.ReadFull(conn, received); err != nil {
		conn.Close()
		return err
	}
	if sha256.Sum256(received) != sha256.Sum256(sent) {
		return fmt.Errorf("%d bytes are not those that were sent", n)
	}
	return nil
}
