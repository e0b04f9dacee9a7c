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
	"github.com/iamproxy/iamproxy/internal/age"
	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// signTimeout and probeTimeout limit the checks of a health request. `iamproxy wait` has
	// to report the reason within the two seconds of a platform's health check.
	signTimeout  = 1500 * time.Millisecond
	probeTimeout = 5 * time.Second
	// probeInterval is the minimum time between two probes of a database.
	probeInterval = time.Second
)

// checkResult is the result of one check, and its line in the response.
type checkResult struct {
	ok      bool
	text    string
	warning bool // the check has passed, but logins are likely to fail
}

// notReady begins the line of a failed check.
const notReady = "not ready"

type checkResults []checkResult

func (results checkResults) ok() bool {
	for _, r := range results {
		if !r.ok {
			return false
		}
	}
	return true
}

// arns matches the ARNs of AWS.
var arns = text.Regexp(`arn:aws[a-z-]*:[^\s"';,()]+`)

// write responds with passed or failed in the first line, and a line for each check. Without
// details, it omits ARNs: other hosts may read the response.
func (results checkResults) write(w http.ResponseWriter, details bool, passed, failed string) {
	status, lines := http.StatusOK, []string{passed}
	if !results.ok() {
		status, lines[0] = http.StatusServiceUnavailable, failed
	}
	for _, r := range results {
		prefix := "ok"
		switch {
		case !r.ok:
			prefix = notReady
		case r.warning:
			prefix = "warning"
		}
		line := text.OneLine(r.text)
		if !details {
			line = arns().ReplaceAllString(line, "(ARN omitted)")
		}
		lines = append(lines, prefix+"  "+line)
	}
	writeText(w, status, strings.Join(lines, "\n"))
}

// startupz returns a handler that responds with 200 once all signers have had credentials.
func (s *Server) startupz(details bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.started.Load() {
			writeText(w, http.StatusOK, "started")
			return
		}
		results := s.checkSigners(r.Context())
		if results.ok() {
			s.started.Store(true)
		}
		results.write(w, details, "started", "not started")
	}
}

// readyz returns a handler that responds with 200 if a new client would get a token. It checks
// the databases only if the request has the parameter upstream: restarting iamproxy does not
// repair a database.
func (s *Server) readyz(details bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		results := append(s.checkDraining(), s.checkSigners(r.Context())...)
		if r.URL.Query().Has("upstream") {
			results = append(results, s.checkDatabases(r.Context())...)
		}
		results.write(w, details, "ready", notReady)
	}
}

// ready reports the result of readyz without upstream.
func (s *Server) ready(ctx context.Context) bool {
	return s.checkDraining().ok() && s.checkSigners(ctx).ok()
}

func (s *Server) checkDraining() checkResults {
	if s.isDraining() {
		return checkResults{{text: "draining: no new clients; the process exits when its last session has ended"}}
	}
	return checkResults{{ok: true, text: "not draining"}}
}

// checkSigners checks each signer once, whatever the number of its endpoints.
func (s *Server) checkSigners(ctx context.Context) checkResults {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	signers := s.signers()
	return runParallel(len(signers), func(i int) checkResult {
		prefix := "credentials of " + strings.Join(signers[i].endpoints, ", ") + ": "
		if err := signers[i].Ready(ctx); err != nil {
			return checkResult{text: prefix + text.WithAdvice(err).Error()}
		}
		status := signers[i].Status()
		if status.Rejected != nil {
			return checkResult{ok: true, warning: true, text: prefix + text.WithAdvice(status.Rejected).Error()}
		}
		return checkResult{ok: true, text: prefix + formatCredentials(status)}
	})
}

// signer is a Signer with the labels of its endpoints.
type signer struct {
	Signer
	endpoints []string
}

func (s *Server) signers() []signer {
	var signers []signer
	index := make(map[Signer]int)
	for _, e := range s.Endpoints {
		i, known := index[e.Signer]
		if !known {
			i = len(signers)
			index[e.Signer] = i
			signers = append(signers, signer{Signer: e.Signer})
		}
		signers[i].endpoints = append(signers[i].endpoints, e.label())
	}
	return signers
}

// formatCredentials returns the source and the expiry of credentials.
func formatCredentials(status auth.IdentityStatus) string {
	switch {
	case status.Source == "":
		return "available"
	case status.Expires.IsZero():
		return status.Source
	}
	return status.Source + ", valid until " + status.Expires.UTC().Format(time.RFC3339)
}

// checkDatabases probes all databases in parallel. Concurrent requests, and those within
// probeInterval, share one probe, so that requests cannot flood a database.
func (s *Server) checkDatabases(ctx context.Context) checkResults {
	return runParallel(len(s.Endpoints), func(i int) checkResult {
		e, key := s.Endpoints[i], strconv.Itoa(i)
		probe := s.probes.DoChan(key, func() (any, error) {
			if last, ok := s.lastProbes.Load(key); ok && age.Of(last.(probeResult).at) < probeInterval {
				return nil, last.(probeResult).err
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
			defer cancel()
			err := e.Database.Probe(ctx)
			s.lastProbes.Store(key, probeResult{err, time.Now()})
			return nil, err
		})
		select {
		case result := <-probe:
			if result.Err != nil {
				return checkResult{text: "database " + e.label() + ": " + text.WithAdvice(result.Err).Error()}
			}
			return checkResult{ok: true, text: "database " + e.label() + ": answers, and its certificate is trusted"}
		case <-ctx.Done():
			return checkResult{text: fmt.Sprintf("database %s: %v", e.label(), ctx.Err())}
		}
	})
}

type probeResult struct {
	err error
	at  time.Time
}

// runParallel runs n checks in parallel, and returns their results in order.
func runParallel(n int, check func(i int) checkResult) checkResults {
	results := make(checkResults, n)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() { results[i] = check(i) })
	}
	wait.Wait()
	return results
}
