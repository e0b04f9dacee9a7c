//go:build unix

// Package sidecar runs the iamproxy binary in front of a stand-in for Aurora.
package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// Sidecar is an iamproxy that logs in to Cluster with the credentials of a role.
type Sidecar struct {
	Binary  string          // path of the program
	Cluster *aurora.Cluster // must be started
	Flags   []string        // additional flags
	Env     []string        // additional environment
	// Line, if not nil, is called with each line of the log, one at a time, after the first
	// that says where it listens.
	Line func(line []byte)

	cmd *exec.Cmd
}

// Args returns the arguments of the program.
func (s *Sidecar) Args() []string {
	return append([]string{aurora.DefaultHost}, s.Flags...)
}

// ClusterEnvironment returns the environment that makes iamproxy's commands connect to cluster, with the
// credentials of a role.
func ClusterEnvironment(cluster *aurora.Cluster) []string {
	return []string{
		"IAMPROXY_VIA=" + cluster.Addr(),
		"IAMPROXY_CA_FILE=" + cluster.CAFile(),
		"AWS_ACCESS_KEY_ID=" + aurora.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + aurora.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + aurora.DefaultSessionKey.SessionToken,
	}
}

// Start runs it until Stop or until ctx is done, and returns the address on which it
// listens. If it ends earlier, the error has its output.
func (s *Sidecar) Start(ctx context.Context) (listen string, err error) {
	s.cmd = exec.CommandContext(ctx, s.Binary, s.Args()...)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.Env = slices.Concat(Environment(), ClusterEnvironment(s.Cluster), []string{"IAMPROXY_LOG_FORMAT=json"}, s.Env)
	// This process handles Ctrl-C and ends iamproxy.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := s.cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := s.cmd.Start(); err != nil {
		return "", err
	}
	var said []string
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var entry struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			go s.follow(lines, log)
			return entry.Listen, nil
		}
		said = append(said, lines.Text())
	}
	return "", fmt.Errorf("iamproxy did not start: %w: %s", s.cmd.Wait(), strings.Join(said, "; "))
}

// PID returns the id of the process, once it has started.
func (s *Sidecar) PID() int { return s.cmd.Process.Pid }

// follow reads the log, so that iamproxy never waits for a reader.
func (s *Sidecar) follow(lines *bufio.Scanner, rest io.Reader) {
	for lines.Scan() {
		if s.Line != nil {
			s.Line(lines.Bytes())
		}
	}
	_, _ = io.Copy(io.Discard, rest) // after a line that is too long
}

// patience is the drain time for open sessions at Stop.
const patience = 2 * time.Second

// Stop ends it. It is not an error if ctx has ended it already.
func (s *Sidecar) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	again := time.AfterFunc(patience, func() { _ = s.cmd.Process.Signal(syscall.SIGTERM) })
	defer again.Stop()
	if err := s.cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("iamproxy: %w", err)
	}
	return nil
}

// Environment returns this process's environment without variables that configure iamproxy,
// AWS or libpq.
func Environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "AWS_") && !strings.HasPrefix(variable, "IAMPROXY_") && !strings.HasPrefix(variable, "PG") {
			kept = append(kept, variable)
		}
	}
	return append(kept, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "PGPASSFILE=/nonexistent")
}
