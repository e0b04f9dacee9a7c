//go:build linux

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The clock of one process cannot be set, and that of the machine is everybody's. So the
// iamproxy whose clock is stepped is made with a package time of its own, in which Now has
// a word added that is written into its memory from outside.

// What is replaced in package time, and the word.
const (
	nowReads  = "sec, nsec, mono := runtimeNow()\n"
	nowStep   = "\tsec += chaosStep\n"
	stepVar   = "\n// chaosStep is added to the time of day, in seconds.\nvar chaosStep int64\n"
	stepName  = "time.chaosStep"
	stepBytes = 8
)

// buildWithClock makes such an iamproxy, and returns where it is.
func buildWithClock(ctx context.Context, dir string) (string, error) {
	root, err := goRoot(ctx)
	if err != nil {
		return "", err
	}
	original := filepath.Join(root, "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if !bytes.Contains(source, []byte(nowReads)) {
		return "", errors.New("this version of Go reads the clock in another way: see test/chaos/clock.go")
	}
	stepped := bytes.Replace(source, []byte(nowReads), []byte(nowReads+nowStep), 1)
	replaced := filepath.Join(dir, "time.go")
	if err := os.WriteFile(replaced, append(stepped, stepVar...), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: replaced}})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "iamproxy-with-clock")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-overlay", overlayFile, "-o", binary, "./cmd/iamproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
}

func goRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", sayWhy("go env", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// stepClock puts iamproxy's clock so far from everybody else's.
func stepClock(d time.Duration) func(context.Context, *place) error {
	return func(_ context.Context, p *place) error {
		address, err := addressOf(p.proxy.binary, stepName)
		if err != nil {
			return err
		}
		memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.proxy.pid()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer memory.Close()
		word := binary.LittleEndian.AppendUint64(make([]byte, 0, stepBytes), uint64(int64(d/time.Second)))
		_, err = memory.WriteAt(word, int64(address))
		return err
	}
}

// addressOf is where a variable is of a program that is always loaded at the same place.
func addressOf(file, variable string) (uint64, error) {
	program, err := elf.Open(file)
	if err != nil {
		return 0, err
	}
	defer program.Close()
	symbols, err := program.Symbols()
	if err != nil {
		return 0, err
	}
	for _, symbol := range symbols {
		if symbol.Name == variable {
			return symbol.Value, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, variable)
}
