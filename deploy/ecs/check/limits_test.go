//go:build linux

package check

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/limits"
	"github.com/iamproxy/iamproxy/test/container"
)

// limitRow matches a row of docs/ecs-options.md: open files, sessions and memory.
var limitRow = regexp.MustCompile(`(?m)^\| (\d+) \| (\d+) \| (\d+) MiB \|`)

// TestOpenFiles compares the table of docs/ecs-options.md with the memory of docs/performance.md, and
// with the limit that iamproxy reports, up to the number of open files that the machine allows.
func TestOpenFiles(t *testing.T) {
	page, err := os.ReadFile("../../../docs/ecs-options.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := limitRow.FindAllStringSubmatch(string(page), -1)
	if len(rows) < 4 {
		t.Fatalf("the page has %d rows", len(rows))
	}
	var machine syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &machine); err != nil {
		t.Fatal(err)
	}
	ran := 0
	binary := container.Build(t, "../../..", "./cmd/iamproxy")
	c := containerNamed(mustParse(t, "task-definition.json"), "iamproxy")
	for _, row := range rows {
		files, err := strconv.ParseUint(row[1], 10, 64)
		sessions, err2 := strconv.Atoi(row[2])
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if want := limits.Allocate(files, 1, 0).Sessions; sessions != want {
			t.Errorf("%d open files: the page has %d sessions, want %d", files, sessions, want)
		}
		if memory := strconv.Itoa(32 + (sessions+7)/8); row[3] != memory {
			t.Errorf("%s sessions need %s MiB, and the page has %s", row[2], memory, row[3])
		}
		if files > machine.Max {
			continue
		}
		ran++
		network := container.NewNetwork(t)
		process := container.Start(t, network.Command(environment(c), "prlimit", "--nofile="+row[1]+":"+row[1], binary))
		if metrics := fetch(t, network, "/metrics"); !strings.Contains(metrics, fmt.Sprintf("\niamproxy_sessions_limit %s\n", exponent(sessions))) {
			t.Errorf("%s open files: not %s sessions: %s", row[1], row[2], regexp.MustCompile(`(?m)^iamproxy_sessions_limit.*`).FindString(metrics))
		}
		process.Stop()
	}
	if ran < 2 {
		t.Errorf("only %d rows ran", ran)
	}
}

// exponent returns a number in the format of the metrics.
func exponent(n int) string { return strconv.FormatFloat(float64(n), 'g', -1, 64) }

// fetch requests a path of the admin server in a network.
func fetch(t *testing.T, network container.Network, path string) (body string) {
	t.Helper()
	if err := network.Enter(func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:9090")
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: localhost:9090\r\n\r\n", path); err != nil {
			return err
		}
		answer, err := io.ReadAll(conn)
		body = string(answer)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return body
}
