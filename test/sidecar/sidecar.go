//go:build unix

// Package sidecar runs the real iamproxy in front of a stand-in for Aurora, for
// programs that show it or try it.
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

// Sidecar is an iamproxy that logs in to Cluster, with the credentials of a role.
type Sidecar struct {
	Binary  string          // the program
	Cluster *aurora.Cluster // has to run
	Flags   []string        // of its own
	Env     []string        // beside what leads to Cluster
	// Line hears each line of its log from the time on that it listens, one after
	// the other. If nil, nobody does.
	Line func(line []byte)

	cmd *exec.Cmd
}

// Args are what the program is started with.
func (s *Sidecar) Args() []string {
	return append([]string{aurora.DefaultHost}, s.Flags...)
}

// Lead is the environment that leads any of iamproxy's commands to cluster, with the
// credentials of a role.
func Lead(cluster *aurora.Cluster) []string {
	return []string{
		"IAMPROXY_VIA=" + cluster.Addr(),
		"IAMPROXY_CA_FILE=" + cluster.CAFile(),
		"AWS_ACCESS_KEY_ID=" + aurora.DefaultSessionKey.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + aurora.DefaultSessionKey.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + aurora.DefaultSessionKey.SessionToken,
	}
}

// Start runs it until Stop or until ctx is done, and returns where it listens. If
// it ends before, the error has what it said.
func (s *Sidecar) Start(ctx context.Context) (listen string, err error) {
	s.cmd = exec.CommandContext(ctx, s.Binary, s.Args()...)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.Env = slices.Concat(Environment(), Lead(s.Cluster), []string{"IAMPROXY_LOG_FORMAT=json"}, s.Env)
	// Ctrl-C is for us, who then end it.
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

// PID is its process's, once it has started.
func (s *Sidecar) PID() int { return s.cmd.Process.Pid }

// follow keeps iamproxy from waiting for somebody to read its log.
func (s *Sidecar) follow(lines *bufio.Scanner, rest io.Reader) {
	for lines.Scan() {
		if s.Line != nil {
			s.Line(lines.Bytes())
		}
	}
	_, _ = io.Copy(io.Discard, rest) // behind a line that is too long
}

// patience is what sessions that are still open get at Stop.
const patience = 2 * time.Second

// Stop ends it, and is no error if ctx already has.
func (s *Sidecar) Stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	again := time.AfterFunc(patience, func() { _ = s.cmd.Process.Signal(syscall.SIGTERM) })
	defer again.Stop()
	if err := s.cmd.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("iamproxy: %w", err)
	}
	return nil
}

// Environment is ours without anything that would tell iamproxy or a client whom
// to be or where to go, and with no password anywhere.
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
