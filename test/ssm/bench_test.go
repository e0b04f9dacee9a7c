//go:build unix

package ssm_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakessm"
)

// benchmarkBytes is the size of a transfer. AWS's plugin needs 7 s for it.
const benchmarkBytes = 3_000_000

// BenchmarkTransfer sends data through AWS's plugin and through iamproxy's client in turn,
// each a new process with a current agent. It reports the rate, and the CPU time and the
// peak memory of the client.
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
					address, client := start(w, b)
					took, err := timeTransfer(address, command, benchmarkBytes)
					client.stop()
					if err != nil {
						b.Fatal(err)
					}
					total[name].add(took, client.cmd.ProcessState)
				}
			}
			for name, u := range total {
				b.ReportMetric(float64(b.N)*benchmarkBytes/1e6/u.wall.Seconds(), name+"-MB/s")
				b.ReportMetric(u.cpu.Seconds()/float64(b.N), name+"-cpu-s")
				b.ReportMetric(float64(u.peak)/(1<<20), name+"-peak-MiB")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// usage is what transfers have used.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // bytes
}

func (u *usage) add(wall time.Duration, state *os.ProcessState) {
	u.wall += wall
	u.cpu += state.UserTime() + state.SystemTime()
	peak := state.SysUsage().(*syscall.Rusage).Maxrss
	if runtime.GOOS == "linux" {
		peak <<= 10
	}
	u.peak = max(u.peak, peak)
}

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
