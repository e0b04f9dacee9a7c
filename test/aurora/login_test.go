//go:build unix

package aurora

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// TestLogin runs tests that leave the server unchanged.
func TestLogin(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{})
	for name, test := range map[string]func(*testing.T, *Cluster){
		"good tokens":      testGoodTokens,
		"bad tokens":       testBadTokens,
		"psql":             testPSQL,
		"plain user":       testPlainUser,
		"without TLS":      testWithoutTLS,
		"replication":      testReplication,
		"login limit":      testLoginLimit,
		"delay":            testDelay,
		"keys come and go": testKeys,
		"clock":            testClock,
		"policy":           testPolicy,
		"log":              testLog,
	} {
		t.Run(name, func(t *testing.T) {
			c.ResetVerdicts()
			test(t, c)
		})
	}
}

func testGoodTokens(t *testing.T, c *Cluster) {
	long := sigv4.Key{AccessKeyID: "ASIALONGSESSION", SecretAccessKey: "s", SessionToken: sessionToken(6000)}
	c.AddKey(long)
	for _, test := range []struct {
		name     string
		key      sigv4.Key
		user     string
		atLeast  int
		tempUser bool
	}{
		{"long-lived key", DefaultKey, IAMUser, 300, false},
		{"session key", DefaultSessionKey, IAMUser, 1501, true},
		{"another user", DefaultSessionKey, OtherUser, 1501, true},
		{"admin", DefaultKey, AdminUser, 300, false},
		{"longest", long, IAMUser, 8192, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := mint(t, signing{key: test.key, user: test.user})
			before := time.Now()
			conn := mustLogin(t, c, test.user, token)
			var user string
			var encrypted bool
			err := conn.QueryRow(testContext(t),
				"SELECT session_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&user, &encrypted)
			if err != nil || user != test.user || !encrypted {
				t.Errorf("logged in as %q, TLS %v: %v", user, encrypted, err)
			}
			v := lastVerdict(t, c)
			if len(token) < test.atLeast || v.TokenLength != len(token) || v.Fingerprint != Fingerprint(token) {
				t.Errorf("sent %d bytes, %s; %d bytes arrived, %s; want at least %d",
					len(token), Fingerprint(token), v.TokenLength, v.Fingerprint, test.atLeast)
			}
			if !v.OK || v.Reason != OK || v.User != test.user || v.Time.Before(before) || v.Time.After(time.Now()) {
				t.Errorf("verdict %+v", v)
			}
			if v.Claims.User != test.user || v.Claims.AccessKeyID != test.key.AccessKeyID || v.Claims.HasSessionToken != test.tempUser {
				t.Errorf("claims %+v", v.Claims)
			}
		})
	}
}

func testBadTokens(t *testing.T, c *Cluster) {
	secret, session, stranger := DefaultKey, DefaultSessionKey, DefaultKey
	secret.SecretAccessKey += "x"
	session.SessionToken = sessionToken(600)
	stranger.AccessKeyID = "AKIASTRANGER"
	good := mint(t, signing{})
	for _, test := range []struct {
		name  string
		token string
		want  Reason
	}{
		{"not a token", "password", Malformed},
		{"cut short", good[:len(good)-1], Malformed},
		{"unknown key", mint(t, signing{key: stranger}), UnknownKey},
		{"old session", mint(t, signing{key: session}), SessionToken},
		{"wrong secret", mint(t, signing{key: secret}), Signature},
		{"changed user", strings.Replace(mint(t, signing{user: OtherUser}), OtherUser, IAMUser, 1), Signature},
		{"from the future", mint(t, signing{age: -6 * time.Minute}), NotYetValid},
		{"too old", mint(t, signing{age: 15 * time.Minute}), Expired},
		{"another's", mint(t, signing{user: OtherUser}), WrongUser},
		{"user in upper case", mint(t, signing{user: strings.ToUpper(IAMUser)}), WrongUser},
		{"nobody's", mint(t, signing{noUser: true}), WrongUser},
		{"another host", mint(t, signing{host: "other" + DefaultHost + ":5432"}), WrongHost},
		{"address dialled", mint(t, signing{host: c.Addr()}), WrongHost},
		{"another port", mint(t, signing{host: DefaultHost + ":5433"}), WrongHost},
		{"no port", mint(t, signing{host: DefaultHost}), WrongHost},
		{"for Aurora DSQL", mint(t, signing{host: DefaultHost, noUser: true, action: "DbConnect", service: ServiceDSQL}), WrongUser},
		{"without a path", strings.Replace(good, "/?", "?", 1), WrongPath},
		{"another path", mint(t, signing{path: "/x"}), WrongPath},
		{"another action", mint(t, signing{action: "DbConnect"}), WrongAction},
		{"another service", mint(t, signing{service: "rds"}), WrongService},
		{"another region", mint(t, signing{region: "eu-west-2"}), WrongRegion},
		{"too long a life", mint(t, signing{expires: "901"}), Lifetime},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := login(t, c, IAMUser, test.token)
			if sqlState(err) != "28000" || !strings.Contains(err.Error(), "LDAP authentication failed for user") {
				t.Errorf("client is told %v", err)
			}
			if v := lastVerdict(t, c); v.OK || v.Reason != test.want || v.User != IAMUser || v.Fingerprint != Fingerprint(test.token) {
				t.Errorf("verdict %+v, want %q", v, test.want)
			}
		})
	}
}

// testPSQL verifies the certificate and sends the token with libpq instead of pgx.
func testPSQL(t *testing.T, c *Cluster) {
	bin, err := BinDir()
	if err != nil {
		t.Fatal(err)
	}
	psql := filepath.Join(bin, "psql")
	if _, err := exec.LookPath(psql); err != nil {
		t.Skip(err)
	}
	run := func(host string) (string, error) {
		cmd := exec.CommandContext(testContext(t), psql, "-XAtc", "SELECT session_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
			"host="+host+" hostaddr=127.0.0.1 port="+strings.TrimPrefix(c.Addr(), "127.0.0.1:")+
				" user="+IAMUser+" dbname="+Database+" sslmode=verify-full sslrootcert="+c.CAFile())
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "PGPASSWORD="+mint(t, signing{key: DefaultSessionKey}))
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if out, err := run(DefaultHost); err != nil || out != IAMUser+"|t" {
		t.Errorf("psql: %v: %s", err, out)
	}
	if v := lastVerdict(t, c); !v.OK {
		t.Errorf("verdict %+v", v)
	}
	if out, err := run("other" + DefaultHost); err == nil || !strings.Contains(out, "does not match host name") {
		t.Errorf("psql, wrong name: %v: %s", err, out)
	}
	if v := c.Verdicts(); len(v) != 0 {
		t.Errorf("a token was sent to the wrong host: %+v", v)
	}
}

func testPlainUser(t *testing.T, c *Cluster) {
	mustLogin(t, c, PlainUser, PlainPassword)
	for _, password := range []string{"wrong", mint(t, signing{user: PlainUser})} {
		if _, err := login(t, c, PlainUser, password); sqlState(err) != "28P01" {
			t.Errorf("with %d bytes: %v", len(password), err)
		}
	}
	if v := c.Verdicts(); len(v) != 0 {
		t.Errorf("the verifier was asked: %+v", v)
	}
}

func testWithoutTLS(t *testing.T, c *Cluster) {
	for user, password := range map[string]string{IAMUser: mint(t, signing{}), PlainUser: PlainPassword} {
		config := config(t, c, user, password)
		config.TLSConfig = nil
		if _, err := open(t, config); sqlState(err) != "28000" || !strings.Contains(err.Error(), "no encryption") {
			t.Errorf("%s: %v", user, err)
		}
	}
	if v := c.Verdicts(); len(v) != 0 {
		t.Errorf("the verifier was asked: %+v", v)
	}
}

func testReplication(t *testing.T, c *Cluster) {
	config := config(t, c, IAMUser, mint(t, signing{}))
	config.RuntimeParams["replication"] = "true"
	// The token is valid, but the role may not replicate.
	if _, err := open(t, config); sqlState(err) != "42501" {
		t.Error(err)
	}
	if v := lastVerdict(t, c); !v.OK {
		t.Errorf("verdict %+v", v)
	}
}

func testLoginLimit(t *testing.T, c *Cluster) {
	defer c.SetLoginLimit(0)
	token := mint(t, signing{})
	c.SetLoginLimit(2)
	began := time.Now()
	var refused int
	for range 4 {
		if _, err := login(t, c, IAMUser, token); err != nil {
			refused++
		}
	}
	if took := time.Since(began); took < time.Second && refused != 2 {
		t.Errorf("%d of 4 logins refused within %v, want 2", refused, took)
	}
	var throttled int
	for _, v := range c.Verdicts() {
		if v.Reason == Throttled {
			throttled++
		}
	}
	if throttled != refused {
		t.Errorf("%d refused, %d throttled", refused, throttled)
	}
	eventually(t, "room for another login", func() bool { _, err := login(t, c, IAMUser, token); return err == nil })
}

func testDelay(t *testing.T, c *Cluster) {
	const delay = 300 * time.Millisecond
	defer c.SetDelay(0)
	c.SetDelay(delay)
	token := mint(t, signing{})
	began := time.Now()
	mustLogin(t, c, IAMUser, token)
	if took := time.Since(began); took < delay {
		t.Errorf("login took %v, want at least %v", took, delay)
	}
	// A client that does not wait has disconnected, but the verdict is recorded.
	c.ResetVerdicts()
	c.SetDelay(time.Hour)
	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error, 1)
	config := config(t, c, IAMUser, token)
	go func() {
		_, err := pgx.ConnectConfig(ctx, config)
		result <- err
	}()
	eventually(t, "verdict during the delay", func() bool { return len(c.Verdicts()) == 1 })
	cancel()
	if err := <-result; err == nil {
		t.Error("logged in before the verdict arrived")
	}
}

func testKeys(t *testing.T, c *Cluster) {
	key := sigv4.Key{AccessKeyID: "ASIASHORT", SecretAccessKey: "s", SessionToken: "t"}
	token := mint(t, signing{key: key})
	check := func(want Reason) {
		t.Helper()
		_, err := login(t, c, IAMUser, token)
		if v := lastVerdict(t, c); v.Reason != want || v.OK != (err == nil) || v.OK != (want == OK) {
			t.Errorf("%v, verdict %+v, want %q", err, v, want)
		}
	}
	check(UnknownKey)
	c.AddKey(key)
	check(OK)
	c.ExpireKey(key.AccessKeyID)
	check(KeyExpired)
	c.AddKey(key)
	check(OK)

	// A key expires by the verifier's clock.
	defer c.SetClock(nil)
	now := time.Now()
	c.SetClock(func() time.Time { return now })
	for left, want := range map[time.Duration]Reason{time.Nanosecond: OK, 0: KeyExpired, -time.Hour: KeyExpired} {
		key.Expires = now.Add(left)
		c.AddKey(key)
		check(want)
	}
	key.Expires = time.Time{}
	c.AddKey(key)
	check(OK)
}

func testClock(t *testing.T, c *Cluster) {
	defer c.SetClock(nil)
	token := mint(t, signing{})
	for ahead, want := range map[time.Duration]Reason{
		-10 * time.Minute: NotYetValid, 14 * time.Minute: OK, 16 * time.Minute: Expired,
	} {
		now := time.Now().Add(ahead)
		c.SetClock(func() time.Time { return now })
		_, _ = login(t, c, IAMUser, token)
		if v := lastVerdict(t, c); v.Reason != want || !v.Time.Equal(now) {
			t.Errorf("%v ahead: verdict %+v, want %q", ahead, v, want)
		}
	}
}

func testLog(t *testing.T, c *Cluster) {
	token := mint(t, signing{user: OtherUser})
	_, _ = login(t, c, IAMUser, token)
	eventually(t, "refusal in the log", func() bool {
		log, err := c.Log()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log, token[len(token)-64:]) {
			t.Fatal("a token is in the log")
		}
		return strings.Contains(log, `LDAP authentication failed for user "iam_user"`) &&
			strings.Contains(log, `connection received`)
	})
}
