package portforward

import (
	"bufio"
	"io"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// maxLine limits the bytes of a line that are kept.
	maxLine = 500
	// maxRecent limits the logged lines that are remembered. A line among them is not
	// logged again.
	maxRecent = 10
)

// output reads and logs the standard output and error of a run.
type output struct {
	log   *zap.Logger
	from  io.ReadCloser // nil if the program could not be started
	ended chan struct{} // closed when no process has the other end open

	mu     sync.Mutex
	last   string
	recent []string // logged lines, oldest first
}

func newOutput(log *zap.Logger) *output {
	return &output{log: log, ended: make(chan struct{})}
}

// read reads until end of file. A program whose output is not read blocks.
func (o *output) read() {
	defer close(o.ended)
	defer o.from.Close()
	lines := bufio.NewReaderSize(o.from, maxLine)
	for continued := false; ; {
		line, more, err := lines.ReadLine()
		if err != nil {
			return
		}
		if !continued {
			o.add(text.OneLine(string(line)))
		}
		continued = more
	}
}

func (o *output) add(line string) {
	if line == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = line
	if slices.Contains(o.recent, line) {
		return
	}
	o.recent = append(o.recent, line)
	o.recent = o.recent[max(0, len(o.recent)-maxRecent):]
	o.log.Info("port forward output", zap.String("line", line), logging.MessageForConsole("port forward: "+line))
}

// lastLine returns the last line, or "" if there is none.
func (o *output) lastLine() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}
