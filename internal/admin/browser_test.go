//go:build browser

package admin

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/test/browser"
)

// pictures is the directory for screenshots; if empty, none is written.
var pictures = os.Getenv("PICTURES")

var screens = map[string]browser.Screen{
	"desktop": {Width: 1280, Height: 800},
	"dark":    {Width: 1280, Height: 800, Dark: true},
	"tablet":  {Width: 820, Height: 1180},
	"phone":   {Width: 360, Height: 740, Scale: 2, Phone: true},
}

// pages returns servers with the status pages to look at.
func pages(now time.Time) map[string]*Server {
	fresh, twin, rejected := endpoint(), troubled(now)[1], busy(now)
	twin.Name, twin.Signer = clusterName, busy(now).Signer
	rejected.Signer = &fakeSigner{status: auth.IdentityStatus{Source: "environment variables", Rejected: &auth.Error{
		Code: auth.ReasonCredentialsRejected, Message: "AWS rejects the credentials from the environment variables (ExpiredToken)",
		Hint: "Export new keys, and restart iamproxy.",
	}}}
	return map[string]*Server{
		"busy":     {Version: "v1.4.0", Commit: "0b7cb9a6ced6a6cbec6a95", Endpoints: []Endpoint{busy(now)}},
		"troubled": {Version: "v1.4.0", Endpoints: troubled(now)},
		"fresh":    {Version: "v1.4.0", Endpoints: []Endpoint{fresh}},
		"rejected": {Version: "v1.4.0", Endpoints: []Endpoint{rejected}},
		"twins":    {Version: "v1.4.0", Endpoints: []Endpoint{busy(now), twin}, MaxSessions: 9180},
		"draining": {Version: "v1.4.0", Endpoints: []Endpoint{busy(now)}, Draining: func() bool { return true }},
	}
}

// startBrowser starts a browser for the time of a test.
func startBrowser(t *testing.T) *browser.Browser {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	b, err := browser.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// The page fits each screen, loads nothing else, and shows clients' values as text.
func TestBrowserShowsPage(t *testing.T) {
	b := startBrowser(t)
	for page, server := range pages(time.Now()) {
		url := serve(t, server) + "/?paused"
		for on, screen := range screens {
			if (on == "dark" || on == "tablet") && page != "busy" && page != "troubled" {
				continue // the others have no more elements
			}
			t.Run(page+" on "+on, func(t *testing.T) {
				p, err := b.Open(url, screen)
				if err != nil {
					t.Fatal(err)
				}
				var got struct {
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
				})`, &got); err != nil {
					t.Fatal(err)
				}
				if got.Hacked || got.Scripts != 1 || got.Images > 0 {
					t.Errorf("a client's value became markup or ran: %+v", got)
				}
				if got.Scroll != got.Width || got.Cut != "" {
					t.Errorf("page is %s pixels wide, screen is %s; elements that are cut:\n%s", got.Scroll, got.Width, got.Cut)
				}
				if on != "tablet" && got.Scrolls > 0 {
					t.Errorf("%d tables are wider than the screen", got.Scrolls)
				}
				if page == "busy" && got.Rows != 50 {
					t.Errorf("%d sessions, want 50", got.Rows)
				}
				if dark := got.Background == "rgb(16, 21, 28)"; dark != screen.Dark {
					t.Errorf("background is %s", got.Background)
				}
				requests := slices.DeleteFunc(p.Requests(), func(r string) bool { return strings.HasPrefix(r, "data:") })
				if !slices.Equal(requests, []string{url}) {
					t.Errorf("requests are %q, want only the page's", requests)
				}
				if incidents := p.Incidents(); len(incidents) > 0 {
					t.Errorf("incidents:\n%s", strings.Join(incidents, "\n"))
				}
				picture, err := p.Screenshot()
				if err != nil || len(picture) < 10_000 {
					t.Errorf("screenshot has %d bytes, error: %v", len(picture), err)
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

// The page updates in place, but not while text is selected, and reports a server that does not
// answer.
func TestBrowserUpdates(t *testing.T) {
	var draining atomic.Bool
	server := httptest.NewServer((&Server{Endpoints: []Endpoint{busy(time.Now())}, PageOnAdmin: true, Draining: draining.Load}).Handler())
	defer server.Close()
	b := startBrowser(t)
	p, err := b.Open(server.URL, screens["desktop"])
	if err != nil {
		t.Fatal(err)
	}
	until := func(what, expression string) {
		t.Helper()
		for ok := false; !ok; time.Sleep(20 * time.Millisecond) {
			if err := p.Evaluate(expression, &ok); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	// Each timer but the one that is set is short.
	until("a selection", `(() => {
		const timer = window.setTimeout;
		window.ticks = 0;
		window.setTimeout = (f) => timer(() => { window.ticks++; f(); }, 20);
		window.heading = document.querySelector('h1');
		getSelection().selectAllChildren(document.querySelector('.failures .hint'));
		return !getSelection().isCollapsed;
	})()`)
	draining.Store(true)
	until("timers", `window.ticks > 3`)
	until("no update", `document.querySelector('h1').innerText.includes('Ready') && getSelection().toString().includes('AWS')`)
	until("an update", `getSelection().removeAllRanges() || document.querySelector('h1').innerText.includes('Draining')`)
	until("the same elements", `window.heading === document.querySelector('h1') && document.title.startsWith('Draining') && document.getElementById('stale').hidden`)
	if incidents := p.Incidents(); len(incidents) > 0 {
		t.Errorf("incidents:\n%s", strings.Join(incidents, "\n"))
	}
	server.CloseClientConnections()
	server.Close()
	until("a notice", `!document.getElementById('stale').hidden`)
}

// Times are in the browser's time zone.
func TestBrowserShowsLocalTime(t *testing.T) {
	b := startBrowser(t)
	p, err := b.Open(serve(t, &Server{Endpoints: []Endpoint{busy(time.Now())}})+"/?paused", screens["desktop"])
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Shown, Zone string }
	if err := p.Evaluate(`({
		shown: document.querySelector('.failures time small').innerText,
		zone: new Date(document.querySelector('.failures time').dateTime).toLocaleString('sv-SE', {timeZoneName: 'short'}),
	})`, &got); err != nil {
		t.Fatal(err)
	}
	if got.Shown == "" || got.Shown != got.Zone {
		t.Errorf("the page shows %q, local time is %q", got.Shown, got.Zone)
	}
}

// A script that gets into the page does not run, and the browser reports it.
func TestBrowserEnforcesContentPolicy(t *testing.T) {
	b := startBrowser(t)
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
		t.Error("the script ran")
	}
	if incidents := strings.Join(p.Incidents(), "\n"); !strings.Contains(incidents, "Content Security Policy") {
		t.Errorf("the violation was not reported; incidents:\n%s", incidents)
	}
}
