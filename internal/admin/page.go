package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed style.css
	styleCSS string
)

// page returns the template. It is parsed when it is used: other commands, such as wait, start
// faster.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"name": formatName, "address": formatAddress, "message": formatMessage,
	}).Parse(pageHTML))
})

// contentPolicy allows a browser to apply the page's own style and to show its icon, and
// nothing else.
var contentPolicy = "default-src 'none'; style-src '" + sourceHash(styleCSS) + "'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// view holds the contents of the status page.
type view struct {
	Style           template.CSS
	Host            string
	Version, Commit string
	Now             *timestamp
	Since           *timestamp // start of the process
	Paused          bool       // no automatic refresh
	Overall         component
	Components      []component // from the client to its data
	Endpoints       []endpointView
}

// status returns the handler of the status page. It shows what is known, and sends no request
// to AWS or a database: the page has to work when they do not.
func (s *Server) status(since time.Time) http.HandlerFunc {
	host, _ := os.Hostname()
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.view(time.Now().Round(0))
		v.Style = template.CSS(styleCSS) //nolint:gosec // it is embedded
		v.Host, v.Version, v.Commit = host, s.Version, firstRunes(s.Commit, 10)
		v.Since = newTimestamp(since, time.Now())
		v.Paused = r.URL.Query().Has("paused")
		var out bytes.Buffer
		if err := page().Execute(&out, v); err != nil {
			writeText(w, http.StatusInternalServerError, "the page cannot be written: "+text.OneLine(err.Error()))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(out.Bytes())
	}
}

func (s *Server) view(now time.Time) view {
	draining := s.isDraining()
	v := view{Now: newTimestamp(now, now), Components: []component{s.proxyStatus(draining, now)}}
	var names []string
	var columns [3][]component // of all endpoints, by component
	for _, e := range s.Endpoints {
		components := e.components(now)
		for i, c := range components {
			columns[i] = append(columns[i], c)
		}
		names = append(names, e.Name)
		v.Endpoints = append(v.Endpoints, newEndpointView(e, components, now))
	}
	if len(names) > 0 {
		for _, column := range columns {
			v.Components = append(v.Components, mostSevere(column, names))
		}
	}
	v.Overall = overall(v.Components, draining)
	return v
}
