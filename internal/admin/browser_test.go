//go:build browser

package admin

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/browser"
)

// pictures is the directory for screenshots; empty: none are written.
var pictures = os.Getenv("PICTURES")

var screens = map[string]browser.Screen{
	"desktop": {Width: 1280, Height: 800},
	"dark":    {Width: 1280, Height: 800, Dark: true},
	"tablet":  {Width: 820, Height: 1180},
	"phone":   {Width: 360, Height: 740, Phone: true, Sharpness: 2},
}

func pages(now time.Time) map[string]*Server {
	fresh := endpoint()
	return map[string]*Server{
		"busy":     {Version: "v1.4.0", Commit: "0b7cb9a6ced6a6cbec6a95", Endpoints: []Endpoint{busy(now)}},
		"troubled": {Version: "v1.4.0", Endpoints: troubled(now)},
		"fresh":    {Version: "v1.4.0", Endpoints: []Endpoint{fresh}},
		"draining": {Version: "v1.4.0", Endpoints: []Endpoint{busy(now)}, Draining: func() bool { return true }},
	}
}

func open(t *testing.T) *browser.Browser {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	b, err := browser.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// The page fits each screen, and text that a client chose stays text.
func TestBrowserShowsPage(t *testing.T) {
	b := open(t)
	for page, server := range pages(time.Now()) {
		url := serve(t, server) + "/?paused"
		for on, screen := range screens {
			t.Run(page+" on "+on, func(t *testing.T) {
				p, err := b.Open(url, screen)
				if err != nil {
					t.Fatal(err)
				}
				var is struct {
					Hacked                         bool
					Scripts, Images, Rows, Scrolls int
					Width, Scroll, Cut, Background string
				}
				if err := p.Evaluate(`({
					hacked: window.hacked === true,
					scripts: document.scripts.length,
					images: document.images.length,
					rows: document.querySelectorAll('.sessions tbody tr').length,
					width: String(window.innerWidth),
					scroll: String(document.documentElement.scrollWidth),
					// Elements that are wider than the window.
					cut: [...document.querySelectorAll('main *:not(thead *)')].filter(e => !e.closest('.scroll table') && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML.slice(0, 80)).join('\n'),
					scrolls: [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length,
					background: getComputedStyle(document.body).backgroundColor,
				})`, &is); err != nil {
					t.Fatal(err)
				}
				if is.Hacked || is.Scripts > 0 || is.Images > 0 {
					t.Errorf("text of a client became an element or ran: %+v", is)
				}
				if is.Scroll != is.Width || is.Cut != "" {
					t.Errorf("%s wide on %s:\n%s", is.Scroll, is.Width, is.Cut)
				}
				if on != "tablet" && is.Scrolls > 0 {
					t.Errorf("%d tables have to be scrolled", is.Scrolls)
				}
				if page == "busy" && is.Rows != 50 {
					t.Errorf("%d sessions are shown, not 50", is.Rows)
				}
				if dark := is.Background == "rgb(16, 21, 28)"; dark != screen.Dark {
					t.Errorf("the background is %s", is.Background)
				}
				if requests := p.Requests(); slices.ContainsFunc(requests, func(r string) bool { return r != url && !strings.HasPrefix(r, "data:") }) {
					t.Errorf("the page requested %q", requests)
				}
				if incidents := p.Incidents(); len(incidents) > 0 {
					t.Errorf("the browser reports: %s", strings.Join(incidents, "\n"))
				}
				picture, err := p.Screenshot()
				if err != nil || len(picture) < 10_000 {
					t.Errorf("no picture: %d bytes, %v", len(picture), err)
				}
				if pictures != "" {
					if err := os.WriteFile(filepath.Join(pictures, page+"-"+on+".png"), picture, 0o600); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

func TestBrowserRefreshes(t *testing.T) {
	b := open(t)
	p, err := b.Open(serve(t, &Server{Endpoints: []Endpoint{busy(time.Now())}}), screens["desktop"])
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLoads(3); err != nil {
		t.Error(err)
	}
}

func TestBrowserEnforcesContentPolicy(t *testing.T) {
	b := open(t)
	p, err := b.Open(serve(t, &Server{})+"/?paused", screens["desktop"])
	if err != nil {
		t.Fatal(err)
	}
	var ran bool
	if err := p.Evaluate(`(() => {
		const script = document.createElement('script');
		script.textContent = 'window.hacked = true';
		document.body.append(script);
		return window.hacked === true;
	})()`, &ran); err != nil {
		t.Fatal(err)
	}
	if ran {
		t.Error("a script ran")
	}
}
