// Package browser runs a headless Chromium, for tests and for pictures in the
// documentation.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Browser is a running Chromium.
type Browser struct {
	*pipe
	process *exec.Cmd
	files   []*os.File // this process's ends of the pipes
	profile string
}

// Start starts a Chromium with a profile of its own. It ends with ctx, or with Close.
func Start(ctx context.Context) (*Browser, error) {
	profile, err := os.MkdirTemp("", "iamproxy-browser-")
	if err != nil {
		return nil, err
	}
	b := &Browser{profile: profile}
	if err := b.start(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("cannot start chromium: %w", err)
	}
	return b, nil
}

func (b *Browser) start(ctx context.Context) error {
	its, toIt, err := os.Pipe()
	if err != nil {
		return err
	}
	defer its.Close()
	fromIt, itsOut, err := os.Pipe()
	if err != nil {
		toIt.Close()
		return err
	}
	defer itsOut.Close()
	b.files = []*os.File{toIt, fromIt}
	arguments := []string{
		"--headless", "--remote-debugging-pipe", "--user-data-dir=" + b.profile,
		"--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-extensions", "--hide-scrollbars", "--disable-dev-shm-usage",
	}
	if os.Geteuid() == 0 {
		arguments = append(arguments, "--no-sandbox") // it has no sandbox for root
	}
	b.process = exec.CommandContext(ctx, "chromium", append(arguments, "about:blank")...)
	b.process.Cancel = func() error { return b.process.Process.Kill() }
	b.process.WaitDelay = 5 * time.Second
	b.process.ExtraFiles = []*os.File{its, itsOut} // it reads 3 and writes 4
	if err := b.process.Start(); err != nil {
		b.process = nil
		return err
	}
	b.pipe = newPipe(toIt)
	go b.read(fromIt)
	return nil
}

// Close ends the browser and removes its files.
func (b *Browser) Close() {
	if b.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if b.call(ctx, "", "Browser.close", nil, nil) != nil {
			_ = b.process.Process.Kill()
		}
		_ = b.process.Wait()
	}
	for _, file := range b.files {
		file.Close()
	}
	os.RemoveAll(b.profile)
}
