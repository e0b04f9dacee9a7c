package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// rdsProxyHost is the name of an RDS Proxy.
const rdsProxyHost = "myproxy.proxy-cabcdefghijk.eu-west-1.rds.amazonaws.com"

// rdsProxyRefusals holds the answers to tokens by user: of an RDS Proxy that throttles for a while, or
// for good, and of one without a secret. AWS documents the texts, and no SQLSTATE.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.troubleshooting.html
var rdsProxyRefusals = map[string]struct {
	code, text string
	times      int
	hint       string // for a user that stays refused
}{
	"u28000":    {"28000", "The IAM authentication failed because of too many competing requests.", 3, ""},
	"u28p01":    {"28P01", "The IAM authentication failed because of too many competing requests.", 3, ""},
	"u53300":    {"53300", "Rate of connection to proxy exceeded 600.", 3, ""},
	"u08006":    {"08006", "The IAM authentication failed because of too many competing requests.", 3, ""},
	"throttled": {"28000", "The IAM authentication failed because of too many competing requests.", 1000, "RDS Proxy throttles IAM logins."},
	"nosecret":  {"28P01", "This RDS proxy has no credentials for the role nosecret. Check the credentials for this role and try again.", 1000, `The RDS Proxy has no secret for user "nosecret".`},
}

// A login that an RDS Proxy throttles is retried with the same token, whatever the SQLSTATE. The hint of
// a refusal that stays is about the RDS Proxy.
func TestReportRDSProxyThrottled(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{rdsProxyHost} })}}
	var mu sync.Mutex
	logins := make(map[string]int)
	server := startFaultyServer(t, config, acceptTLS, func(user string, c *tlsConn) {
		c.requestPassword()
		refusal := rdsProxyRefusals[user]
		mu.Lock()
		logins[user]++
		refused := logins[user] <= refusal.times
		mu.Unlock()
		if refused {
			c.send("ESFATAL\x00VFATAL\x00C" + refusal.code + "\x00M" + refusal.text + "\x00\x00")
			return
		}
		c.send(authOK, readyForQuery)
		c.discard()
	})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), rdsProxyHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
		"--via="+server.listener.Addr().String(), "--ca-file="+ca.file, "--connect-timeout=10s")
	var all sync.WaitGroup
	for user, refusal := range rdsProxyRefusals {
		all.Go(func() {
			if refusal.hint == "" {
				if err := p.logIn(user); err != nil {
					t.Errorf("%s: %v", user, err)
				}
				return
			}
			err := p.logIn(user)
			if codeOf(err) != refusal.code || !strings.Contains(err.Error(), refusal.text) || !strings.HasPrefix(hintOf(err), refusal.hint) ||
				strings.Contains(hintOf(err), "rds-db:connect") || strings.Contains(hintOf(err), "iam-db-auth-error") {
				t.Errorf("%s: %v; hint %q", user, err, hintOf(err))
			}
		})
	}
	all.Wait()
	server.mu.Lock()
	defer server.mu.Unlock()
	for user, refusal := range rdsProxyRefusals {
		var tokens []string
		for _, login := range server.logins[user] {
			tokens = append(tokens, login.passwords...)
		}
		if refusal.hint == "" && (len(tokens) < refusal.times || len(slices.Compact(tokens)) != 1) {
			t.Errorf("%s: %d logins with %d tokens", user, len(server.logins[user]), len(slices.Compact(tokens)))
		}
	}
}
