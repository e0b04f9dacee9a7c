//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/internal/standin"
)

// startProxy runs iamproxy at a free port, and returns where it listens.
func startProxy(ctx context.Context, binary string, cluster *standin.Cluster) (*exec.Cmd, string, error) {
	cmd := exec.CommandContext(ctx, binary, standin.DefaultHost,
		"--via", cluster.Addr(), "--ca-file", cluster.CAFile(), "--listen", "127.0.0.1:0", "--log-format", "json")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(environment(),
		"AWS_ACCESS_KEY_ID="+standin.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+standin.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN="+standin.DefaultSessionKey.SessionToken)
	// Ctrl-C is for us, who then end iamproxy.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	var said []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var entry struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			go drain(stderr)
			return cmd, entry.Listen, nil
		}
		said = append(said, lines.Text())
	}
	return nil, "", fmt.Errorf("iamproxy did not start: %w: %s", cmd.Wait(), strings.Join(said, "; "))
}

// drain keeps iamproxy from waiting for somebody to read its log.
func drain(log io.Reader) { _, _ = io.Copy(io.Discard, log) }

// stopProxy ends iamproxy, and sessions that a failed program has left.
func stopProxy(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	time.AfterFunc(2*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	if err := cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("iamproxy: %w", err)
	}
	return nil
}

// environment is ours without anything that would tell iamproxy or a driver
// whom to be or where to go, and with no password anywhere.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") && !strings.HasPrefix(variable, "IAMPROXY_") && !strings.HasPrefix(variable, "PG") {
			kept = append(kept, variable)
		}
	}
	return append(kept, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "PGPASSFILE=/nonexistent")
}
