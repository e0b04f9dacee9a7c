package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/proxy"
	"github.com/iamproxy/iamproxy/proxy/cancel"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/pool"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// hostile are names that a client may send.
var hostile = []string{
	`<script>window.hacked = true</script>`,
	`"><img src=x onerror="window.hacked = true">`,
	`'-alert(1)-'`,
	"reports \u202Egnp.exe",
	"two\nlines\x00\x1b[31m",
	"not UTF-8 \xff\xfe",
	"{{.Secret}} ${jndi:ldap://x} </td></table>",
	strings.Repeat("long ", 2000),
	"Zürich 東京 مرحبا 🐘",
}

func busyLogins(now time.Time) (all []stats.LoginTimings) {
	for i := range 52 {
		ms := func(n int) time.Duration { return time.Duration(n*(80+(i*37)%50)) * time.Millisecond / 100 }
		l := stats.LoginTimings{
			At: now.Add(time.Duration(i-52) * 9 * time.Second), Resolve: ms(1), Dial: ms(2 + i%2), TLS: ms(5 + i%3),
			Login: ms(14 + (i*7)%5), Attempts: 1,
		}
		switch {
		case i > 30 && i < 36:
			l.Queue = ms(8 * (i - 30))
		case i == 20:
			l.Login, l.Attempts, l.Queue = ms(400), 2, ms(250)
		case i%4 == 3:
			l = stats.LoginTimings{At: l.At, Total: ms(1)}
		}
		l.Total += l.Queue + l.Resolve + l.Dial + l.TLS + l.Login + ms(1)
		all = append(all, l)
	}
	return all
}

func busySessions(now time.Time) (all []proxy.SessionInfo) {
	ordinary := []string{"orders-api", "reports", "psql", "PostgreSQL JDBC Driver", "migrations 20261103"}
	for i := range 50 {
		application := ordinary[i%len(ordinary)]
		user := []string{"app", "app", "app", "reporting"}[i%4]
		if i%5 == 4 {
			application = hostile[i/5%len(hostile)]
		}
		if i%17 == 16 {
			user = hostile[i/17%len(hostile)]
		}
		all = append(all, proxy.SessionInfo{
			ID: uint64(100 + 3*i), Client: fmt.Sprintf("127.0.0.1:%d", 40112+7*i), User: user, Database: "orders",
			ApplicationName: application, Server: "10.0.12.34:5432", Began: now.Add(-time.Duration(52-i) * time.Duration(52-i) * 7 * time.Second),
			Up: int64(i * i * 1117), Down: int64((50 - i) * (50 - i) * 91193), Pooled: i%6 == 5,
		})
	}
	return all
}

// busy returns an endpoint with a value in each field of the page.
func busy(now time.Time) Endpoint {
	e := endpoint()
	e.Via = "localhost:15432"
	e.CheckCommand = func(string, string) string { return "iamproxy check mydb --user USER" }
	e.AssumeRole = "arn:aws:iam::111122223333:role/orders-database"
	e.Database = &fakeDatabase{
		counts: proxy.Counts{
			Totals: stats.Totals{
				Results: map[stats.Result]int64{stats.OK: 5120, stats.Failed: 14, stats.Rejected: 2, stats.Abandoned: 1},
				Failures: map[stats.FailureKind]int64{
					{SQLSTATE: "28000", Reason: pgwire.TokenRefused}: 11, {SQLSTATE: "08001", Reason: pgwire.DialRefused}: 3,
				},
				Retries: 6,
			},
			Sessions: 50, Up: 48_220_118, Down: 3_920_114_003,
			Cancels: cancel.Stats{Delivered: 12, Rejected: 1},
			Pool:    pool.Stats{Idle: 4, InUse: 50, Resetting: 1},
		},
		sessions: busySessions(now),
		failures: []stats.Failure{
			{
				First: now.Add(-40 * time.Second), Last: now.Add(-30 * time.Second), Times: 11, Client: "127.0.0.1:40960", User: "reporting_ro", Database: "orders",
				SQLSTATE: "28000", Reason: pgwire.TokenRefused, Message: `PAM authentication failed for user "reporting_ro"`,
				Check: "iamproxy check mydb --user reporting_ro --database orders",
				Hint: "AWS has one answer for all mistakes. arn:aws:sts::111122223333:assumed-role/orders-database/iamproxy signed for reporting_ro at " + clusterName +
					"; check that the caller is allowed rds-db:connect on arn:aws:rds-db:eu-west-1:111122223333:dbuser:RESOURCE_ID/reporting_ro (RESOURCE_ID is the DbClusterResourceId, cluster-...)",
			},
			{
				First: now.Add(-3 * time.Hour), Last: now.Add(-3*time.Hour + 2*time.Second), Times: 3, Client: "127.0.0.1:38122", User: hostile[1], Database: hostile[0],
				SQLSTATE: "57P03", Reason: pgwire.DialRefused, Message: "iamproxy: could not connect to " + clusterName + " (via localhost:15432): connection refused",
				Hint: "Nothing is listening on localhost:15432 (--via). Start the port forward, or correct --via.",
			},
		},
		logins: busyLogins(now),
		users:  []string{"app", "reporting", hostile[1]},
		server: stats.ServerInfo{
			At: now.Add(-9 * time.Second), Address: "127.0.0.1:15432", Version: "17.5", TLS: "TLS 1.3", CertificateExpiry: now.Add(211 * 24 * time.Hour),
		},
	}
	e.Signer = &fakeSigner{status: auth.IdentityStatus{
		Source:  "the ECS task role, then arn:aws:iam::111122223333:role/orders-database",
		Caller:  auth.Caller{ARN: "arn:aws:sts::111122223333:assumed-role/orders-database/iamproxy", Account: "111122223333"},
		Expires: now.Add(47*time.Minute + 12*time.Second),
	}}
	e.Tokens = &fakeTokens{
		counts:   auth.TokenCounts{Signed: 219},
		expiries: map[string]time.Time{"app": now.Add(11 * time.Minute), "reporting": now.Add(6 * time.Minute), hostile[1]: now.Add(9 * time.Minute)},
	}
	return e
}

// troubled returns two endpoints without credentials. The second is unreachable as well, through a
// Session Manager session that has just lost its WebSocket.
func troubled(now time.Time) []Endpoint {
	first, second := busy(now), endpoint()
	first.Signer = &fakeSigner{status: auth.IdentityStatus{
		Err: &auth.Error{Code: auth.ReasonSSOExpired, Message: "no AWS credentials: the SSO session has expired", Hint: "Run: aws sso login --profile dev", Err: errors.New("expired")},
	}}
	second.Name, second.Listen, second.Kind = "audit.cabcdefghijk.eu-central-1.rds.amazonaws.com:5432", "127.0.0.1:5433", "instance"
	second.Database = &fakeDatabase{failures: []stats.Failure{{
		First: now.Add(-90 * time.Second), Last: now.Add(-4 * time.Second), Times: 9, Client: "127.0.0.1:40960", User: "audit", Database: "audit", SQLSTATE: "57P03", Reason: pgwire.ResolveFailed, Check: "iamproxy check audit --user audit --database audit",
		Message: `iamproxy: could not resolve host name "audit.cabcdefghijk.eu-central-1.rds.amazonaws.com": no such host`,
		Hint:    "Check the DNS servers of this host.",
	}}}
	second.Signer = first.Signer
	second.Via, second.Channel = "ssm://tag:Name=bastion", fakeChannel{
		State: ssm.Resuming, Since: now.Add(-41 * time.Second), Target: "i-0123456789abcdef0", SessionID: "dev-0a1b2c3d4e5f60718", Agent: "3.3.987.0",
		Opened: now.Add(-3 * time.Hour), Streams: 7, Sessions: 2, Resumes: 3, BytesIn: 5_218_113, BytesOut: 48_220,
		RoundTrip: 41 * time.Millisecond, Unacknowledged: 3072, Err: errors.New("the Session Manager session to tag:Name=bastion ended"),
	}
	return []Endpoint{first, second}
}
