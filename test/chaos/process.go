//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

const (
	listenAddress = "127.0.0.1:5432"
	adminAddress  = "127.0.0.1:9090"
	// startLimit bounds the start of iamproxy.
	startLimit = 30 * time.Second
	// stopLimit bounds its end, including a drain of two seconds.
	stopLimit = 15 * time.Second
)

// ownFiles runs a program with its own resolv.conf, and with standard error in a file on a
// separate small disk. Both vanish with the program.
const ownFiles = `mount --bind "$0" /etc/resolv.conf && mount -t tmpfs -o size=16m none "$1" && log=$1/log && shift && exec "$@" 2>>"$log"`

// process is the tested iamproxy.
type process struct {
	place  *place
	binary string
	flags  []string

	descriptors uint64 // its limit before any fault

	cmd    *exec.Cmd
	exited chan struct{} // closed once it has exited
	err    error         // the result, to be read after exited
}

func (s *process) start(ctx context.Context) error {
	if err := os.MkdirAll(s.disk(), 0o755); err != nil {
		return err
	}
	args := []string{"--mount", "sh", "-c", ownFiles, s.place.resolvConf(), s.disk(), s.binary,
		aurora.DefaultHost, "--listen=" + listenAddress, "--admin=" + adminAddress, "--via=" + s.place.via(),
		"--ca-file=" + s.place.cluster.CAFile(), "--drain-max=2s", "--log-format=json"}
	s.cmd = s.place.link.Command("unshare", append(args, s.flags...)...)
	s.cmd.Env = append(sidecar.Environment(),
		"AWS_CONTAINER_CREDENTIALS_FULL_URI="+s.place.aws.URL()+"/container/role",
		"AWS_ENDPOINT_URL_STS="+s.place.aws.URL()+"/sts")
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go s.wait()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		_, err := s.get(ctx, "/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.exited:
			return fmt.Errorf("iamproxy did not start: %w", s.err)
		case <-ctx.Done():
			return fmt.Errorf("iamproxy did not get ready: %w", err)
		}
	}
}

func (s *process) wait() {
	s.err = s.cmd.Wait()
	close(s.exited)
}

func (s *process) pid() int { return s.cmd.Process.Pid }

// disk returns the directory with the log, a separate disk for iamproxy.
func (s *process) disk() string { return filepath.Join(s.place.dir, "disk") }

// onDisk returns the path of a file on it, as seen from outside.
func (s *process) onDisk(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", s.pid(), filepath.Join(s.disk(), name))
}

// stop drains it. It returns an error unless it exits with 0.
func (s *process) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		_ = s.cmd.Process.Kill()
		<-s.exited
		return errors.New("iamproxy did not exit after SIGTERM")
	}
	return sayWhy("iamproxy", s.err)
}

// get sends a request to the admin server.
func (s *process) get(ctx context.Context, path string) (body string, err error) {
	client := &http.Client{Transport: &http.Transport{DialContext: s.place.link.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddress+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, response.Status, strings.TrimSpace(string(b)))
	}
	return string(b), err
}

// holdings are the resources of iamproxy, and those of the server because of it.
type holdings struct {
	sessions, sockets, goroutines, backends int
	memory                                  int // KiB
}

func (s *process) holdings(ctx context.Context) (h holdings, err error) {
	body, err := s.get(ctx, "/metrics")
	if err != nil {
		return h, err
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(name, "iamproxy_open_sessions{"):
			h.sessions += int(value)
		case name == "process_open_fds":
			h.sockets = int(value)
		case name == "go_goroutines":
			h.goroutines = int(value)
		case name == "process_resident_memory_bytes":
			h.memory = int(value) >> 10
		}
	}
	h.backends, err = s.place.backends(ctx)
	return h, err
}

// trouble returns lines of the log that must not be there.
func (s *process) trouble() error {
	log, err := os.ReadFile(s.onDisk("log"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(log)) {
		for _, word := range []string{"panic:", "DATA RACE", "fatal error:", "X-Amz-", "Action=connect"} {
			if strings.Contains(line, word) {
				return fmt.Errorf("the log has %q: %s", word, strings.TrimSpace(line))
			}
		}
	}
	return os.Truncate(s.onDisk("log"), 0)
}
