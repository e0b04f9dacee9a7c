package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// Screen describes the screen and the viewer.
type Screen struct {
	Width, Height int
	Phone         bool    // touch, and the viewport of the page
	Dark          bool    // preferred
	Sharpness     float64 // pixels of the picture per CSS pixel; 0 is 1
}

// Page is a loaded page.
type Page struct {
	browser *Browser
	session string

	mu       sync.Mutex
	loads    int
	changed  chan struct{} // closed and replaced at each load
	incident []string
	requests []string
}

// Open loads a page and waits for it.
func (b *Browser) Open(ctx context.Context, url string, screen Screen) (*Page, error) {
	var target struct{ TargetID string }
	if err := b.call(ctx, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return nil, err
	}
	var attached struct{ SessionID string }
	err := b.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	if err != nil {
		return nil, err
	}
	p := &Page{browser: b, session: attached.SessionID, changed: make(chan struct{})}
	b.onEvent(p.session, p.event)
	scheme := "light"
	if screen.Dark {
		scheme = "dark"
	}
	sharpness := screen.Sharpness
	if sharpness == 0 {
		sharpness = 1
	}
	for _, step := range []struct {
		method string
		params map[string]any
	}{
		{"Page.enable", nil},
		{"Network.enable", nil},
		{"Runtime.enable", nil},
		{"Log.enable", nil},
		{"Emulation.setDeviceMetricsOverride", map[string]any{
			"width": screen.Width, "height": screen.Height, "deviceScaleFactor": sharpness, "mobile": screen.Phone,
		}},
		{"Emulation.setEmulatedMedia", map[string]any{
			"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
		}},
	} {
		if err := p.call(ctx, step.method, step.params, nil); err != nil {
			return nil, err
		}
	}
	var navigated struct{ ErrorText string }
	if err := p.call(ctx, "Page.navigate", map[string]any{"url": url}, &navigated); err != nil {
		return nil, err
	}
	if navigated.ErrorText != "" {
		return nil, fmt.Errorf("%s: %s", url, navigated.ErrorText)
	}
	return p, p.WaitLoads(ctx, 1)
}

func (p *Page) call(ctx context.Context, method string, params, result any) error {
	return p.browser.call(ctx, p.session, method, params, result)
}

// event records incidents, requests and loads.
func (p *Page) event(method string, params json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case "Page.loadEventFired":
		p.loads++
		close(p.changed)
		p.changed = make(chan struct{})
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		_ = json.Unmarshal(params, &sent)
		p.requests = append(p.requests, sent.Request.URL)
	case "Page.javascriptDialogOpening", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		p.incident = append(p.incident, method+" "+string(params))
	}
}

// Incidents returns the dialogs, console messages, script errors and violations of the
// page's policy so far. A page without scripts has none.
func (p *Page) Incidents() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.incident...)
}

// Requests returns the requested addresses so far.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// WaitLoads waits until the page was loaded n times.
func (p *Page) WaitLoads(ctx context.Context, times int) error {
	for {
		p.mu.Lock()
		loads, changed := p.loads, p.changed
		p.mu.Unlock()
		if loads >= times {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("loaded %d times, not %d: %w", loads, times, ctx.Err())
		}
	}
}

// Evaluate stores the value of an expression in result.
func (p *Page) Evaluate(ctx context.Context, expression string, result any) error {
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Text string }
	}
	err := p.call(ctx, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &got)
	switch {
	case err != nil:
		return err
	case got.ExceptionDetails != nil:
		return errors.New(got.ExceptionDetails.Text)
	}
	return json.Unmarshal(got.Result.Value, result)
}

// Screenshot returns a PNG of the whole page.
func (p *Page) Screenshot(ctx context.Context) ([]byte, error) {
	var shot struct{ Data []byte }
	err := p.call(ctx, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	return shot.Data, err
}
