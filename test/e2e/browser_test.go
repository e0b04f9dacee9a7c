//go:build browser && unix

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/browser"
	"github.com/iamproxy/iamproxy/test/fakeaws"
)

// picture is the file for a screenshot of the status page, for the documentation; if empty,
// none is written.
var picture = os.Getenv("PICTURE")

// hostileNames are application names that contain markup, scripts or control characters.
var hostileNames = []string{
	`<script>window.hacked = true</script>`,
	`"><img src=x onerror="window.hacked=true">`,
	`<svg onload=window.hacked=true>`,
	`</td></table><h1>hacked</h1>`,
	`{{.}} ${window.hacked=true}`,
	"right to left \u202egnirts\u202c",
	"tab\tand\u0001control",
	strings.Repeat("W", 63),
	`javascript:window.hacked=true`,
	`</style><style>body{display:none}`,
}

// The status page shows 50 sessions of real clients, most with hostile names, as text.
func TestBrowserWithRealSessions(t *testing.T) {
	cluster := startCluster(t, &aurora.Cluster{Certificate: aurora.Certificate{NotAfter: time.Now().AddDate(0, 6, 0)}})
	s := newSourceTest(t, cluster)
	s.aws.AllowRole(fakeaws.Role{ARN: appRole, Trusts: []string{janeUser}})
	p := s.start(s.janes(), []string{"--assume-role=" + appRole, "--pool=5"})
	until(t, "the first signature", func() bool { return strings.Contains(p.logs(), `"msg":"signing"`) })
	for _, name := range []string{"orders-api", "orders-api", "billing", "migrations", "psql", "pgAdmin 4", "reports"} {
		openAs(t, p, aurora.IAMUser, name)
	}
	openAs(t, p, aurora.OtherUser, "metabase")
	for range 20 {
		p.mustPSQL(aurora.IAMUser, aurora.Database, "select repeat('x', 20000)")
	}
	expectRefusal(t, p, aurora.IAMUser, "no_such_database", "does not exist")
	expectRefusal(t, p, aurora.PlainUser, aurora.Database, "instead of a token")

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	b, err := browser.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	url := "http://" + p.admin() + "/?paused"
	if picture != "" {
		takePicture(t, b, url)
	}
	for i := range 42 {
		openAs(t, p, aurora.IAMUser, hostileNames[i%len(hostileNames)])
	}
	expectRefusal(t, p, `<script>window.hacked=true</script>`, `<b>db</b>`, "FATAL")
	for name, screen := range map[string]browser.Screen{
		"desktop": {Width: 1280, Height: 800},
		"phone":   {Width: 360, Height: 740, Phone: true, Dark: true},
	} {
		page, err := b.Open(url, screen)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Hacked                bool
			Scripts, Images, Rows int
			Width, Scroll         int
			Text                  string
		}
		if err := page.Evaluate(`({
			hacked: window.hacked === true,
			scripts: document.scripts.length,
			images: document.images.length,
			rows: document.querySelectorAll('.sessions tbody tr').length,
			width: window.innerWidth,
			scroll: document.documentElement.scrollWidth,
			text: document.body.innerText,
		})`, &got); err != nil {
			t.Fatal(err)
		}
		if got.Hacked || got.Scripts != 1 || got.Images > 0 || len(page.Incidents()) > 0 {
			t.Errorf("%s: a client's value became markup or ran: %+v; incidents: %q", name, got, page.Incidents())
		}
		if got.Rows != 50 || got.Scroll != got.Width {
			t.Errorf("%s: %d sessions, want 50; page is %d pixels wide, screen is %d", name, got.Rows, got.Scroll, got.Width)
		}
		for _, want := range []string{hostileNames[0][:20], hostileNames[1][:20], "orders-api", aurora.DefaultHost, "no_such_database"} {
			if !strings.Contains(got.Text, want) {
				t.Errorf("%s: the page does not show %q", name, want)
			}
		}
	}
}

// openAs opens a session with an application name, until the end of the test.
func openAs(t *testing.T, p *process, user, application string) {
	t.Helper()
	config, err := pgx.ParseConfig(p.conninfo(user, aurora.Database) + " sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	var rows string
	if err := conn.QueryRow(t.Context(), fmt.Sprintf("select repeat('x', %d)", 1000*len(application)*len(application))).Scan(&rows); err != nil {
		t.Fatal(err)
	}
}

// takePicture writes a screenshot of the status page to picture.
func takePicture(t *testing.T, b *browser.Browser, url string) {
	t.Helper()
	page, err := b.Open(url, browser.Screen{Width: 1120, Height: 900, Scale: 1.25})
	if err != nil {
		t.Fatal(err)
	}
	png, err := page.Screenshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(picture, png, 0o644); err != nil {
		t.Fatal(err)
	}
}
