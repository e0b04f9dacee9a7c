package portforward

import (
	"bufio"
	"io"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// maxLine is how many bytes of a line are kept.
	maxLine = 500
	// maxRecent is how many lines are remembered, to log none again that was just logged.
	maxRecent = 10
)

// output is what a run of the program says.
type output struct {
	log   *zap.Logger
	from  io.ReadCloser // nil if the program could not be started
	ended chan struct{} // closed when there is nobody left who could say anything

	mu     sync.Mutex
	last   string
	recent []string // that were logged, the oldest first
}

func newOutput(log *zap.Logger) *output {
	return &output{log: log, ended: make(chan struct{})}
}

// read takes in all lines until the end. It never stops before: the program would
// wait for it.
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
	o.log.Info("the port forward says", zap.String("text", line))
}

// lastLine is the last thing that was said; empty if nothing was.
func (o *output) lastLine() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}
