//go:build unix

package e2e

import (
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// The status page is served on loopback only, unless --status says where. Beyond loopback,
// --admin serves health and metrics.
func TestReportStatusPageBeyondLoopback(t *testing.T) {
	t.Parallel()
	const own = "127.0.0.1:0" // a listener of the status page alone
	taken := listenTCP(t).Addr().String()
	for name, test := range map[string]struct {
		args  []string
		admin int    // status of / at --admin; 0 is no server
		page  string // host of the page in the log; empty is off
	}{
		"default":                    {[]string{"--admin=127.0.0.1:0"}, 200, "127.0.0.1"},
		"IPv6":                       {[]string{"--admin=[::1]:0"}, 200, "::1"},
		"everywhere":                 {[]string{"--admin=0.0.0.0:0"}, 404, ""},
		"everywhere, IPv6":           {[]string{"--admin=[::]:0"}, 404, ""},
		"everywhere, page too":       {[]string{"--admin=0.0.0.0:0", "--status=:0"}, 200, "localhost"},
		"everywhere, own":            {[]string{"--admin=0.0.0.0:0", "--status=" + own}, 404, "127.0.0.1"},
		"own":                        {[]string{"--admin=[::1]:0", "--status=" + own}, 404, "127.0.0.1"},
		"off":                        {[]string{"--admin=127.0.0.1:0", "--status=off"}, 404, ""},
		"page alone":                 {[]string{"--admin=off", "--status=" + own}, 0, "127.0.0.1"},
		"all off":                    {[]string{"--admin=off"}, 0, ""},
		"everywhere, off explicitly": {[]string{"--admin=:0", "--status=off"}, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{aurora.DefaultHost, "--listen=127.0.0.1:0", "--via=" + taken}, test.args...)
			p := startProxy(t, keyEnvironment(aurora.DefaultKey), args...)
			if test.admin == 0 && test.page == "" {
				p.mustAcceptClients()
				if strings.Contains(p.logs(), "http://") {
					t.Errorf("an HTTP server: %s", p.logs())
				}
				return
			}
			admin, page := p.httpServers()
			if host := parseURL(t, page).Hostname(); host != test.page {
				t.Errorf("the page is on %q, want %q", page, test.page)
			}
			if (admin == "") != (test.admin == 0) {
				t.Errorf("--admin is at %q", admin)
			}
			if admin != "" {
				wantAdmin(t, admin, test.admin)
			}
			if strings.HasPrefix(name, "everywhere") {
				for _, url := range addressesOf(t, parseURL(t, admin).Port()) {
					wantAdmin(t, url, test.admin)
				}
			}
			if page != "" {
				for path, want := range map[string]int{"": 200, "readyz": 200, "metrics": 200, "shutdown": 404} {
					if page == admin && path == "shutdown" {
						continue // there it is of --admin
					}
					if status, body := getURL(t, page+path); status != want || path == "" && !strings.Contains(body, aurora.DefaultHost) {
						t.Errorf("%s%s: %d, want %d: %.200s", page, path, status, want, body)
					}
				}
			}
		})
	}

	// A socket that is passed is judged by its address.
	everywhere, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	_, port, _ := net.SplitHostPort(everywhere.Addr().String())
	cmd := exec.Command(binaryPath(t), aurora.DefaultHost, "--listen=127.0.0.1:0", "--via="+taken, "--admin=0.0.0.0:"+port)
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	passed := startCommand(t, passSocket(cmd, passable(t, everywhere.(*net.TCPListener))), 1)
	passed.httpServers()
	wantAdmin(t, "http://127.0.0.1:"+port+"/", http.StatusNotFound)

	// A port in use is an error.
	for _, args := range [][]string{{"--admin=127.0.0.1:0", "--status=" + taken}, {"--admin=off", "--status=" + taken}} {
		cmd := exec.Command(binaryPath(t), append([]string{aurora.DefaultHost, "--listen=127.0.0.1:0"}, args...)...)
		cmd.Env = keyEnvironment(aurora.DefaultKey)
		out, err := combinedOutput(t, cmd)
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "iamproxy: --status "+taken+": address already in use") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}

// httpServers returns the URLs of --admin and the status page, as logged. Each may be empty.
func (p *process) httpServers() (admin, page string) {
	p.t.Helper()
	until(p.t, "the HTTP servers", func() bool {
		for line := range strings.Lines(p.logs()) {
			var entry struct {
				Msg, Admin string
				StatusPage string `json:"status_page"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Msg, "serving HTTP") {
				admin, page = entry.Admin, entry.StatusPage
				return true
			}
		}
		return false
	})
	return admin, page
}

// wantAdmin requests / of --admin, health and metrics.
func wantAdmin(t *testing.T, admin string, status int) {
	t.Helper()
	got, body := getURL(t, admin)
	if got != status || status == http.StatusNotFound && (strings.Count(body, "\n") != 1 || !strings.Contains(body, "--status") && !strings.Contains(body, "it is at http://")) {
		t.Errorf("%s: %d, want %d: %.300s", admin, got, status, body)
	}
	for _, path := range []string{"livez", "readyz", "startupz", "metrics"} {
		if got, body := getURL(t, admin+path); got != http.StatusOK {
			t.Errorf("%s%s: %d: %.300s", admin, path, got, body)
		}
	}
}

// addressesOf returns the URLs of a port at the IPv4 addresses of this host.
func addressesOf(t *testing.T, port string) (urls []string) {
	t.Helper()
	_, ofTests, _ := net.ParseCIDR("198.18.0.0/15") // other tests add and remove these
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if ip := address.(*net.IPNet).IP; ip.To4() != nil && !ofTests.Contains(ip) {
			urls = append(urls, "http://"+net.JoinHostPort(ip.String(), port)+"/")
		}
	}
	return urls
}

// mustAcceptClients waits until the endpoint's listener is served.
func (p *process) mustAcceptClients() {
	p.t.Helper()
	if out, err := combinedOutput(p.t, exec.Command(binaryPath(p.t), "wait", "--admin=off", "--listen="+p.listens[0])); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

func getURL(t *testing.T, url string) (status int, body string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, url, string(b))
	return response.StatusCode, string(b)
}

func parseURL(t *testing.T, address string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// The page shows two problems of two endpoints with one host, each with the address that it
// listens on, its hint and the command line of check. /readyz names them the same way.
func TestReportStatusPageOfTwoEndpoints(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t, &aurora.Cluster{})
	gone := listenTCP(t)
	gone.Close()
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost+"?via="+cluster.Addr(), aurora.DefaultHost+"?via="+gone.Addr().String(),
		"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--ca-file="+cluster.CAFile(), "--connect-timeout=500ms")
	p.mustPSQL(aurora.IAMUser, aurora.Database, "select 1")
	for _, user := range []string{aurora.PlainUser, "typo"} {
		expectRefusal(t, p, user, aurora.Database, "FATAL")
	}
	unreachable := client(t.Context(), "psql", "-X", "-w", "host=127.0.0.1 port="+parseURL(t, "tcp://"+p.listens[1]).Port()+" user=app dbname="+aurora.Database)
	if out, err := combinedOutput(t, unreachable); err == nil {
		t.Fatalf("psql got in: %s", out)
	}

	_, page := p.get("/")
	page = html.UnescapeString(page)
	name := aurora.DefaultHost + ":5432 (on "
	for _, want := range []string{
		" Cannot reach the database</h1>", "1 more problem", "Some logins are refused",
		name + p.listens[0] + ")", name + p.listens[1] + ")",
		`psql "host=127.0.0.1 port=` + p.port() + ` user=USER dbname=DATABASE"`,
		"2×", "<b><bdi>typo</bdi></b> on", "#password_requested", "#dial_refused", "password_requested</span>",
		">iamproxy check " + aurora.DefaultHost + " --user typo ", ">iamproxy check " + aurora.DefaultHost + " --user app ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page:\n%s", want, page)
		}
	}
	if n := strings.Count(page, ">iamproxy check "+aurora.DefaultHost+" --user typo "); n != 2 { // at the problem, and at the failures
		t.Errorf("%d times the line of check", n)
	}
	status, body := p.get("/readyz?upstream")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "not ready  database "+name+p.listens[1]+"): ") || !strings.Contains(body, "ok  database "+name+p.listens[0]+"): ") {
		t.Errorf("/readyz says %d: %s", status, body)
	}
}
