package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed style.css
	styleCSS string
	//go:embed page.js
	pageJS string
)

// page returns the template. It is parsed when it is used: other commands, such as wait, start
// faster.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"name": formatName, "address": formatAddress, "message": formatMessage,
		"nbsp": func(text string) string { return strings.ReplaceAll(text, " ", "\u00a0") },
	}).Parse(pageHTML))
})

// contentPolicy allows a browser to apply the page's own style, to run its own script, which
// may only request the page again, and to show its icon.
var contentPolicy = "default-src 'none'; style-src '" + sourceHash(styleCSS) + "'; script-src '" + sourceHash(pageJS) + "'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Stale returns the level of the notice that the page is stale.
func (view) Stale() level { return bad }

// view holds the contents of the status page.
type view struct {
	Style           template.CSS
	Script          template.JS
	Host            string
	Version, Commit string
	Now             *timestamp
	Since           *timestamp  // start of the process
	Paused          bool        // no automatic refresh
	Overall         component   // the first problem, or a summary
	Advice          advice      // of the first problem
	Affected        []string    // labels of the endpoints of the first problem; empty if there is only one endpoint
	Others          []problem   // the other problems
	Components      []component // from the client to its data
	Endpoints       []endpointView
}

// status returns the handler of the status page. It shows what is known, and sends no request
// to AWS or a database: the page has to work when they do not.
func (s *Server) status(since time.Time) http.HandlerFunc {
	host, _ := os.Hostname()
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.view(time.Now().Round(0))
		v.Style, v.Script = template.CSS(styleCSS), template.JS(pageJS) //nolint:gosec // they are embedded
		v.Host, v.Version, v.Commit = host, s.Version, firstRunes(s.Commit, 10)
		v.Since = newTimestamp(since, time.Now())
		v.Paused = r.URL.Query().Has("paused")
		var out bytes.Buffer
		if err := page().Execute(&out, v); err != nil {
			writeText(w, http.StatusInternalServerError, "could not write the page: "+text.OneLine(err.Error()))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(out.Bytes())
	}
}

func (s *Server) view(now time.Time) view {
	draining := s.isDraining()
	proxy := s.proxyStatus(draining, now)
	v := view{Now: newTimestamp(now, now), Components: []component{proxy}}
	var rows [][]component     // of each endpoint
	var columns [3][]component // of all endpoints, by component
	for _, e := range s.Endpoints {
		components := e.components(now)
		rows = append(rows, components)
		for i, c := range components {
			columns[i] = append(columns[i], c)
		}
		v.Endpoints = append(v.Endpoints, newEndpointView(e, components, now))
	}
	if len(s.Endpoints) > 0 {
		for _, column := range columns {
			v.Components = append(v.Components, mostSevere(column))
		}
	}
	v.Overall = summary(v.Components)
	if all := s.problems(proxy, rows, draining); len(all) > 0 {
		v.Overall, v.Advice, v.Affected, v.Others = all[0].component, all[0].Advice, all[0].Endpoints, all[1:]
	}
	return v
}
