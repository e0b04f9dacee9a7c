package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// signPatience and probePatience bound what is asked for an answer about health.
	// Platforms give `iamproxy wait` two seconds, and it is to say why.
	signPatience  = 1500 * time.Millisecond
	probePatience = 5 * time.Second
	// probeEvery is how often a database is looked at, however many may ask.
	probeEvery = time.Second
)

// finding is one thing that was looked at, and how it is.
type finding struct {
	well bool
	text string
}

// findings are in the order in which they are told.
type findings []finding

func (f findings) well() bool {
	for _, one := range f {
		if !one.well {
			return false
		}
	}
	return true
}

// answer has the verdict in its first line and in its status.
func (f findings) answer(w http.ResponseWriter, yes, no string) {
	status, lines := http.StatusOK, []string{yes}
	if !f.well() {
		status, lines[0] = http.StatusServiceUnavailable, no
	}
	for _, one := range f {
		verdict := "ok"
		if !one.well {
			verdict = "not ready"
		}
		lines = append(lines, verdict+"  "+text.OneLine(one.text))
	}
	writeText(w, status, strings.Join(lines, "\n"))
}

// startupz says no until there are credentials, and yes ever after.
func (s *Server) startupz(w http.ResponseWriter, r *http.Request) {
	if s.started.Load() {
		writeText(w, http.StatusOK, "started")
		return
	}
	f := s.signerFindings(r.Context())
	if f.well() {
		s.started.Store(true)
	}
	f.answer(w, "started", "not started")
}

// readyz says whether a client that comes now would get a token. Whether the database
// is there as well, only those learn who ask: it is no fault of iamproxy's, and
// replacing iamproxy would not mend it.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	f := append(s.ownFindings(), s.signerFindings(r.Context())...)
	if r.URL.Query().Has("upstream") {
		f = append(f, s.databaseFindings(r.Context())...)
	}
	f.answer(w, "ready", "not ready")
}

// ready is what readyz says without upstream.
func (s *Server) ready(ctx context.Context) bool {
	return s.ownFindings().well() && s.signerFindings(ctx).well()
}

func (s *Server) ownFindings() findings {
	if s.isDraining() {
		return findings{{false, "draining: it ends when its last session has ended; connect to another"}}
	}
	return findings{{true, "not draining"}}
}

// signerFindings asks each signer once, whatever the number of its endpoints.
func (s *Server) signerFindings(ctx context.Context) findings {
	ctx, cancel := context.WithTimeout(ctx, signPatience)
	defer cancel()
	signers := s.signers()
	return inParallel(len(signers), func(i int) finding {
		of := "credentials of " + strings.Join(signers[i].endpoints, ", ") + ": "
		if err := signers[i].Ready(ctx); err != nil {
			return finding{false, of + text.WithAdvice(err).Error()}
		}
		return finding{true, of + inWords(signers[i].Status())}
	})
}

// signer is one, and the names of the endpoints that it signs for.
type signer struct {
	Signer
	endpoints []string
}

func (s *Server) signers() []signer {
	var all []signer
	index := make(map[Signer]int)
	for _, e := range s.Endpoints {
		i, known := index[e.Signer]
		if !known {
			i = len(all)
			index[e.Signer] = i
			all = append(all, signer{Signer: e.Signer})
		}
		all[i].endpoints = append(all[i].endpoints, e.Name)
	}
	return all
}

// inWords is where credentials come from and how long they last.
func inWords(status auth.IdentityStatus) string {
	switch {
	case status.Source == "":
		return "at hand"
	case status.Expires.IsZero():
		return status.Source
	}
	return status.Source + ", valid until " + status.Expires.UTC().Format(time.RFC3339)
}

// databaseFindings has the databases probed, all at once. Requests that come meanwhile,
// or at once behind it, have the answer of the same probe: whoever may ask may not
// flood a database.
func (s *Server) databaseFindings(ctx context.Context) findings {
	return inParallel(len(s.Endpoints), func(i int) finding {
		e, key := s.Endpoints[i], strconv.Itoa(i)
		probe := s.probing.DoChan(key, func() (any, error) {
			if last, ok := s.probed.Load(key); ok && time.Since(last.(probed).at) < probeEvery {
				return nil, last.(probed).err
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probePatience)
			defer cancel()
			err := e.Database.Probe(ctx)
			s.probed.Store(key, probed{err, time.Now()})
			return nil, err
		})
		select {
		case result := <-probe:
			if result.Err != nil {
				return finding{false, "database " + e.Name + ": " + text.WithAdvice(result.Err).Error()}
			}
			return finding{true, "database " + e.Name + ": answers, with a certificate that is trusted"}
		case <-ctx.Done():
			return finding{false, fmt.Sprintf("database %s: %v", e.Name, ctx.Err())}
		}
	})
}

// probed is what the last look at a database has shown.
type probed struct {
	err error
	at  time.Time
}

func inParallel(n int, look func(i int) finding) findings {
	all := make(findings, n)
	var wait sync.WaitGroup
	for i := range all {
		wait.Go(func() { all[i] = look(i) })
	}
	wait.Wait()
	return all
}
