// Package browser runs a headless Chromium, for tests and for pictures in the
// documentation.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
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
	ctx    context.Context
	cancel context.CancelFunc
}

// Start starts a Chromium with an empty profile. It ends with ctx or Close, and its pages
// end with it.
func Start(ctx context.Context) (*Browser, error) {
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(
		chromedp.ExecPath("chromium"),
		// Nothing is resolved but this machine. Otherwise Chromium contacts its vendor's
		// services, which --disable-background-networking does not prevent.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	))
	b := &Browser{ctx, cancel}
	if err := chromedp.Do(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("could not start chromium: %w", err)
	}
	return b, nil
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() {
	b.cancel()
	chromedp.FromContext(b.ctx).Allocator.Wait()
}

// Screen describes a screen and the preference of its user.
type Screen struct {
	Width, Height int64   // in CSS pixels
	Scale         float64 // device pixels per CSS pixel; 1 if 0
	Phone         bool    // has touch, and follows the page's viewport element
	Dark          bool    // prefers a dark color scheme
}

// emulate shows the tab on the screen.
func (s Screen) emulate(tab context.Context) error {
	viewport := []chromedp.EmulateViewportOption{chromedp.EmulateScale(max(s.Scale, 1))}
	if s.Phone {
		viewport = append(viewport, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	if err := chromedp.Do(tab, chromedp.EmulateViewport(s.Width, s.Height, viewport...)); err != nil {
		return err
	}
	scheme := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: "light"}
	if s.Dark {
		scheme.Value = "dark"
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{scheme}}
	_, err := chromedp.Call(tab, emulation.SetEmulatedMedia, media)
	return err
}

// Page is a loaded page.
type Page struct {
	ctx    context.Context
	loaded chan struct{} // has a load that WaitLoad has not returned for

	mu        sync.Mutex
	incidents []string
	requests  []string
}

// Open opens a page in a new tab, and waits until it is loaded.
func (b *Browser) Open(url string, screen Screen) (*Page, error) {
	tab, _ := chromedp.NewContext(b.ctx) // ends with the browser
	if err := screen.emulate(tab); err != nil {
		return nil, err
	}
	p := &Page{ctx: tab, loaded: make(chan struct{}, 1)}
	if err := chromedp.Listen(tab, p.event); err != nil {
		return nil, err
	}
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		return nil, fmt.Errorf("could not open %s: %w", url, err)
	}
	return p, p.WaitLoad()
}

// event records loads, requests and incidents.
func (p *Page) event(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *page.EventLoadEventFired:
		select {
		case p.loaded <- struct{}{}:
		default:
		}
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *page.EventJavascriptDialogOpening, *runtime.EventConsoleAPICalled, *runtime.EventExceptionThrown, *log.EventEntryAdded:
		text, _ := json.Marshal(e)
		p.incidents = append(p.incidents, fmt.Sprintf("%T %s", e, text))
	}
}

// WaitLoad waits until the page is loaded again: after Open, or after the last WaitLoad.
func (p *Page) WaitLoad() error {
	select {
	case <-p.loaded:
		return nil
	case <-p.ctx.Done():
		return fmt.Errorf("page was not loaded: %w", p.ctx.Err())
	}
}

// Incidents returns the dialogs, console messages, script errors and violations of the
// content policy so far. A page without scripts has none.
func (p *Page) Incidents() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.incidents)
}

// Requests returns the requested URLs so far.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Evaluate stores the value of a JavaScript expression in result.
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
