package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"os"
	"time"

	"github.com/iamproxy/iamproxy/internal/text"
)

var (
	//go:embed page.html
	pageText string
	//go:embed style.css
	styleText string

	page = template.Must(template.New("page").Funcs(template.FuncMap{"name": name, "address": address, "message": message}).Parse(pageText))
)

// contentPolicy lets a browser do nothing with what it gets but show it, in the one
// style that is in the page and under the icon that is written there.
var contentPolicy = "default-src 'none'; style-src '" + hashOf(styleText) + "'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// view is what the page shows.
type view struct {
	Style           template.CSS
	Host            string
	Version, Commit string
	Now             *moment
	Since           *moment // this process
	Paused          bool    // it is not loaded again and again
	Verdict         station
	Way             []station // from the client to its data
	Endpoints       []endpointView
}

// status shows all that is known without asking anybody: it has to be there just
// when the others are not.
func (s *Server) status(since time.Time) http.HandlerFunc {
	host, _ := os.Hostname()
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.look(time.Now().Round(0))
		v.Style = template.CSS(styleText) //nolint:gosec // it is from the file beside this one
		v.Host, v.Version, v.Commit = host, s.Version, first(s.Commit, 10)
		v.Since = at(since, time.Now())
		v.Paused = r.URL.Query().Has("paused")
		var out bytes.Buffer
		if err := page.Execute(&out, v); err != nil {
			writeText(w, http.StatusInternalServerError, "the page cannot be written: "+text.OneLine(err.Error()))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(out.Bytes())
	}
}

func (s *Server) look(now time.Time) view {
	v := view{Now: at(now, now), Way: []station{s.itself(now)}}
	var names []string
	var columns [3][]station
	for _, e := range s.Endpoints {
		names = append(names, e.Name)
		stations := e.stations(now)
		for i, one := range stations {
			columns[i] = append(columns[i], one)
		}
		v.Endpoints = append(v.Endpoints, e.view(stations, now))
	}
	for _, column := range columns {
		if len(column) > 0 {
			v.Way = append(v.Way, worst(column, names))
		}
	}
	v.Verdict = verdict(v.Way)
	return v
}
