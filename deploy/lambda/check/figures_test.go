//go:build linux

package check

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var figures = flag.Bool("figures", false, "measure the figures of docs/lambda.md")

// TestFigures prints the figures of docs/lambda.md: go test -run TestFigures -v . -figures
func TestFigures(t *testing.T) {
	if !*figures {
		t.Skip("it only measures")
	}
	p, d := build(t), startDatabase(t)
	hello := []string{"/usr/bin/node", "./bootstrap.mjs", "hello.handler"}
	var with, without []time.Duration
	for range 20 {
		for _, bare := range []bool{false, true} {
			s := p.start(t, d, environment{function: "node", command: hello, bare: bare})
			begun := time.Now()
			s.request("{}")
			if took := time.Since(begun); bare {
				without = append(without, took)
			} else {
				with = append(with, took)
			}
			s.kill()
		}
	}
	t.Logf("first invocation: %v with the extension, %v without; medians of 20", median(with), median(without))

	s := p.start(t, d, environment{function: "go", env: map[string]string{"IAMPROXY_LOG_LEVEL": "info"}})
	var connects []time.Duration
	for range 500 {
		connects = append(connects, time.Duration(s.invoke("{}").Connect*float64(time.Millisecond)))
	}
	var inside []time.Duration
	for line := range strings.Lines(s.process.Log()) {
		var entry struct {
			Msg      string
			Pooled   bool
			Duration float64 `json:"duration_s"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "session opened" && entry.Pooled {
			inside = append(inside, time.Duration(entry.Duration*float64(time.Second)))
		}
	}
	t.Logf("connection of a warm invocation: %v in the function, %v of that in iamproxy; medians of 500 and %d", median(connects), median(inside), len(inside))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.extension()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory: %q", regexp.MustCompile(`Vm(HWM|RSS):\s*\d+ kB`).FindAllString(string(status), -1))
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
