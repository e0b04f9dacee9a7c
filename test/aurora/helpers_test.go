//go:build unix

package aurora

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// testLimit bounds every wait of a test.
const testLimit = 20 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := contextWithLimit()
	t.Cleanup(cancel)
	return ctx
}

func contextWithLimit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), testLimit)
}

// start starts c for the duration of the test.
func start(t *testing.T, c *Cluster) *Cluster {
	t.Helper()
	began := time.Now()
	err := c.Start(testContext(t))
	if errors.Is(err, ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("started in %v", time.Since(began).Round(time.Millisecond))
	return c
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(testLimit)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", testLimit, what)
		}
		time.Sleep(poll)
	}
}

// signing holds the parameters of a token; the zero value is a valid token for IAMUser.
type signing struct {
	key                                 sigv4.Key
	host, user, region, service, action string
	path, expires                       string
	noUser                              bool // omit DBUser
	age                                 time.Duration
}

// mint signs a token with the SDK's signer.
func mint(t *testing.T, s signing) string {
	t.Helper()
	if s.key == (sigv4.Key{}) {
		s.key = DefaultKey
	}
	query := url.Values{
		"Action":        {cmp.Or(s.action, "connect")},
		"DBUser":        {cmp.Or(s.user, IAMUser)},
		"X-Amz-Expires": {cmp.Or(s.expires, "900")},
	}
	if s.noUser {
		query.Del("DBUser")
	}
	request, err := http.NewRequest(http.MethodGet,
		"https://"+cmp.Or(s.host, DefaultHost+":5432")+cmp.Or(s.path, "/")+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{
		AccessKeyID: s.key.AccessKeyID, SecretAccessKey: s.key.SecretAccessKey, SessionToken: s.key.SessionToken,
	}, request, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		cmp.Or(s.service, "rds-db"), cmp.Or(s.region, DefaultRegion), time.Now().Add(-s.age).UTC())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(signed, "https://")
}

// config returns the configuration of a careful client: sslmode=verify-full, to c's name at
// c's address.
func config(t *testing.T, c *Cluster, user, password string) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig("host=127.0.0.1 port=1 user=x database=" + Database + " sslmode=disable connect_timeout=20")
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(c.CAFile())
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("CA file: ", err)
	}
	config.Host, config.User, config.Password = host, user, password
	config.Port = uint16(c.port)
	config.TLSConfig = &tls.Config{ServerName: c.host(), RootCAs: roots, MinVersion: tls.VersionTLS12}
	return config
}

// login connects as user. The test closes the connection at its end.
func login(t *testing.T, c *Cluster, user, password string) (*pgx.Conn, error) {
	t.Helper()
	return open(t, config(t, c, user, password))
}

func open(t *testing.T, config *pgx.ConnConfig) (*pgx.Conn, error) {
	t.Helper()
	conn, err := pgx.ConnectConfig(testContext(t), config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn, nil
}

func mustLogin(t *testing.T, c *Cluster, user, password string) *pgx.Conn {
	t.Helper()
	conn, err := login(t, c, user, password)
	if err != nil {
		t.Fatalf("%s cannot log in: %v", user, err)
	}
	return conn
}

// sqlState returns the code of a server's error, or "".
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// lastVerdict returns the only verdict, and resets the list. It fails if there is not
// exactly one.
func lastVerdict(t *testing.T, c *Cluster) Verdict {
	t.Helper()
	verdicts := c.Verdicts()
	c.ResetVerdicts()
	if len(verdicts) != 1 {
		t.Fatalf("%d verdicts, want 1: %+v", len(verdicts), verdicts)
	}
	return verdicts[0]
}
