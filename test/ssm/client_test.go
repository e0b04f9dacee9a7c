package ssm_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
)

// isClient is the variable of the environment of iamproxy's client.
const isClient = "IAMPROXY_TEST_CLIENT"

// iamproxy starts iamproxy's client as a process that listens on a port, as AWS's plugin does.
func (w *world) iamproxy(t testing.TB) (address string, client *process) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestClientProcess$", "-test.timeout=5m")
	cmd.Env = append(environment(t.TempDir()), isClient+"=1", "AWS_REGION="+region, "AWS_ENDPOINT_URL_SSM="+w.aws.URL()+"/ssm")
	return startProcess(t, cmd)
}

// TestClientProcess is the process of iamproxy's client.
func TestClientProcess(t *testing.T) {
	if os.Getenv(isClient) == "" {
		t.Skip("other tests run it as a process")
	}
	load := func(ctx context.Context) (aws.Config, error) { return config.LoadDefaultConfig(ctx) }
	forward := &ssm.Forward{Target: ssm.Target{ID: target}, Host: database, Port: "5432", API: &ssm.Client{Config: load}, Config: load, AllowHTTP: true}
	forward.Start()
	defer forward.Stop()
	if _, err := forward.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	fmt.Fprintf(os.Stdout, "Port %d opened for sessionId\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		stream, err := forward.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		go join(conn, stream)
	}
}

// join copies in both directions until one ends.
func join(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}
