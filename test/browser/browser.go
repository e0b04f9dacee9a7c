// Package browser runs a headless Chromium, for tests and for pictures in the
// documentation.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is a running Chromium.
type Browser struct {
	ctx   context.Context
	close []context.CancelFunc
}

// Start starts a Chromium with a profile of its own. It ends with ctx, or with Close, and so
// do its pages.
func Start(ctx context.Context) (*Browser, error) {
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it has no sandbox for root
	}
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	browser, end := chromedp.NewContext(allocator)
	b := &Browser{ctx: browser, close: []context.CancelFunc{end, stop}}
	if err := chromedp.Do(browser); err != nil {
		b.Close()
		return nil, fmt.Errorf("could not start chromium: %w", err)
	}
	return b, nil
}

// Close ends the browser and removes its files.
func (b *Browser) Close() {
	for _, end := range b.close {
		end()
	}
}

// Screen describes the screen and the viewer.
type Screen struct {
	Width, Height int64
	Phone         bool    // touch, and the viewport of the page
	Dark          bool    // preferred
	Sharpness     float64 // pixels of the picture per CSS pixel; 0 is 1
}

// emulate makes a page appear on the screen.
func (s Screen) emulate(page context.Context) error {
	viewport := []chromedp.EmulateViewportOption{chromedp.EmulateScale(max(s.Sharpness, 1))}
	if s.Phone {
		viewport = append(viewport, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	scheme := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: "light"}
	if s.Dark {
		scheme.Value = "dark"
	}
	if err := chromedp.Do(page, chromedp.EmulateViewport(s.Width, s.Height, viewport...)); err != nil {
		return err
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{scheme}}
	_, err := chromedp.Call(page, emulation.SetEmulatedMedia, media)
	return err
}

// Page is a loaded page.
type Page struct {
	ctx context.Context

	mu        sync.Mutex
	loads     int
	changed   chan struct{} // closed and replaced at each load
	incidents []string
	requests  []string
}

// Open loads a page and waits for it.
func (b *Browser) Open(url string, screen Screen) (*Page, error) {
	tab, _ := chromedp.NewContext(b.ctx)
	p := &Page{ctx: tab, changed: make(chan struct{})}
	if _, err := chromedp.Call(tab, network.Enable, network.EnableParams{}); err != nil {
		return nil, err
	}
	if err := screen.emulate(tab); err != nil {
		return nil, err
	}
	if err := chromedp.Listen(tab, p.event); err != nil {
		return nil, err
	}
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return p, p.WaitLoads(1)
}

// event records incidents, requests and loads.
func (p *Page) event(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *page.EventLoadEventFired:
		p.loads++
		close(p.changed)
		p.changed = make(chan struct{})
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *page.EventJavascriptDialogOpening, *runtime.EventConsoleAPICalled, *runtime.EventExceptionThrown, *log.EventEntryAdded:
		text, _ := json.Marshal(e)
		p.incidents = append(p.incidents, fmt.Sprintf("%T %s", e, text))
	}
}

// Incidents returns the dialogs, console messages, script errors and violations of the
// page's policy so far. A page without scripts has none.
func (p *Page) Incidents() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.incidents)
}

// Requests returns the requested addresses so far.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// WaitLoads waits until the page was loaded n times.
func (p *Page) WaitLoads(n int) error {
	for {
		p.mu.Lock()
		loads, changed := p.loads, p.changed
		p.mu.Unlock()
		if loads >= n {
			return nil
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return fmt.Errorf("loaded %d times, not %d: %w", loads, n, p.ctx.Err())
		}
	}
}

// Evaluate stores the value of an expression in result.
func (p *Page) Evaluate(expression string, result any) error {
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]byte](expression))
	if err != nil {
		return err
	}
	return json.Unmarshal(value, result)
}

// Screenshot returns a PNG of the whole page.
func (p *Page) Screenshot() ([]byte, error) {
	return chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
}
