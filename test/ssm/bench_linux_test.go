package ssm_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// slowBytes is the size of a transfer that takes 4 s, and fastBytes that of one that takes
// less than 1 s.
const slowBytes, fastBytes = 3_000_000, 30_000_000

// BenchmarkTransfer sends data through AWS's plugin and through iamproxy's client in turn,
// each a new process with a current agent. It reports the rate, and the CPU time and the
// peak memory of the client, to be run as
//
//	SESSION_MANAGER_PLUGIN=$PWD/bin/session-manager-plugin go test -run '^$' -bench . -benchtime 3x ./test/ssm
//
// The agent limits the rate down, and the plugin the one up.
func BenchmarkTransfer(b *testing.B) {
	clients := map[string]func(*world, testing.TB) (string, *process){"plugin": (*world).plugin, "iamproxy": (*world).iamproxy}
	w := newWorld(b, fakessm.Agent{})
	for _, command := range []string{"up", "down"} {
		b.Run(command, func(b *testing.B) {
			total := make(map[string]*usage)
			for name := range clients {
				total[name] = &usage{}
			}
			for b.Loop() {
				for name, start := range clients {
					size := int64(slowBytes)
					if name == "iamproxy" && command == "up" {
						size = fastBytes
					}
					address, client := start(w, b)
					took, err := timeTransfer(address, command, size)
					if err != nil {
						b.Fatal(err)
					}
					total[name].add(b, size, took, client)
				}
			}
			for name, u := range total {
				b.ReportMetric(u.megabytes/u.wall.Seconds(), name+"-MB/s")
				b.ReportMetric(u.cpu.Seconds()*1000/u.megabytes, name+"-cpu-ms/MB")
				b.ReportMetric(float64(u.peak)/(1<<20), name+"-peak-MiB")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// usage is what transfers have used.
type usage struct {
	megabytes float64
	wall, cpu time.Duration
	peak      int64 // bytes
}

// add ends the client. The peak of its memory is not that of its rusage, which begins with
// the memory of the parent.
func (u *usage) add(b *testing.B, size int64, wall time.Duration, client *process) {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", client.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	client.stop()
	var kib int64
	if match := peakMemory.FindSubmatch(status); match != nil {
		kib, _ = strconv.ParseInt(string(match[1]), 10, 64)
	}
	u.megabytes += float64(size) / 1e6
	u.wall += wall
	u.cpu += client.cmd.ProcessState.UserTime() + client.cmd.ProcessState.SystemTime()
	u.peak = max(u.peak, kib<<10)
}

var peakMemory = regexp.MustCompile(`(?m)^VmHWM:\s+([0-9]+) kB$`)

// timeTransfer returns how long n bytes take in one direction.
func timeTransfer(address, command string, n int64) (time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answer := make([]byte, sha256.Size)
	payload := data(n)
	begin := time.Now()
	if _, err := fmt.Fprintf(conn, "%s %d\n", command, n); err != nil {
		return 0, err
	}
	if command == "up" {
		go func() { _, _ = conn.Write(payload) }()
		_, err = io.ReadFull(conn, answer)
	} else {
		hash := sha256.New()
		_, err = io.CopyN(hash, conn, n)
		answer = hash.Sum(nil)
	}
	took := time.Since(begin)
	if err == nil && sha256.Sum256(payload) != [sha256.Size]byte(answer) {
		err = fmt.Errorf("%d bytes %s are not those that were sent", n, command)
	}
	return took, err
}
