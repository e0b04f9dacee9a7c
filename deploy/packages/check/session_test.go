//go:build linux

package check

import (
	"bufio"
	"io"
	"os"
	"strings"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// session is a psql with an open session.
type session struct {
	h     *host
	in    io.WriteCloser
	out   *bufio.Reader
	close func()
}

func (h *host) openSession() *session {
	h.t.Helper()
	cmd := h.network.Command(os.Environ(), "psql", "-XAtq", "host=127.0.0.1 port=5432 user="+aurora.IAMUser+" dbname="+aurora.Database)
	in, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	s := &session{h: h, in: in, out: bufio.NewReader(out), close: func() {
		in.Close()
		_ = cmd.Wait()
	}}
	if answer := s.ask("select 1;"); answer != "1" {
		h.t.Fatalf("the session answers %q", answer)
	}
	return s
}

// ask returns the first line of the answer to a query.
func (s *session) ask(sql string) string {
	s.h.t.Helper()
	if _, err := io.WriteString(s.in, sql+"\n"); err != nil {
		s.h.t.Errorf("%s: %v", sql, err)
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.h.t.Errorf("%s: %v", sql, err)
	}
	return strings.TrimSpace(line)
}
