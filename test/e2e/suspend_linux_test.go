package e2e

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// After a suspension of the machine, a pooled connection whose server does not answer is not
// passed to a client.
func TestPoolAfterSuspension(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	p := startPool(t, cluster)
	first := p.guest(t, aurora.IAMUser)
	lost, err := strconv.Atoi(pid(t, first))
	if err != nil {
		t.Fatal(err)
	}
	p.leave(t, first)
	if err := syscall.Kill(lost, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(lost, syscall.SIGCONT) //nolint:errcheck // it may have ended
	p.suspend(t, 1500*time.Millisecond)
	if now := pid(t, p.guest(t, aurora.IAMUser)); now == strconv.Itoa(lost) {
		t.Error("the client has the connection that was lost")
	}
	if log := p.logs(); !strings.Contains(log, "pooled connection discarded") {
		t.Error("no connection was discarded")
	}
}

// suspend stops the process for d, without its monotonic clock: as a virtual machine that is
// paused, which a process cannot make. Go reads the clock relative to time.startNano.
func (p *process) suspend(t *testing.T, d time.Duration) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	defer p.signal(syscall.SIGCONT)
	time.Sleep(d)
	err := p.delayMonotonicClock(d)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("this account must not write the memory of a process that permits no dumps")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p *process) delayMonotonicClock(d time.Duration) error {
	const variable = "time.startNano"
	file := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	binaryFile, err := elf.Open(file + "exe")
	if err != nil {
		return err
	}
	defer binaryFile.Close()
	symbols, err := binaryFile.Symbols()
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(file+"mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	for _, symbol := range symbols {
		if symbol.Name != variable {
			continue
		}
		var value [8]byte
		if _, err := memory.ReadAt(value[:], int64(symbol.Value)); err != nil {
			return err
		}
		binary.NativeEndian.PutUint64(value[:], binary.NativeEndian.Uint64(value[:])+uint64(d))
		_, err = memory.WriteAt(value[:], int64(symbol.Value))
		return err
	}
	return fmt.Errorf("no symbol %s", variable)
}
