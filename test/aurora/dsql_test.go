//go:build unix

package aurora

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDSQL(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{Service: ServiceDSQL})
	// good is a token for a user other than AdminUser.
	good := signing{host: DefaultHost, noUser: true, action: "DbConnect", service: ServiceDSQL}
	admin := good
	admin.action = "DbConnectAdmin"
	with := func(change func(*signing)) signing {
		s := good
		change(&s)
		return s
	}
	for _, test := range []struct {
		name string
		user string
		sign signing
		want Reason
	}{
		{"good", IAMUser, good, OK},
		{"good for others", OtherUser, good, OK},
		{"temporary key", IAMUser, with(func(s *signing) { s.key = DefaultSessionKey }), OK},
		{"admin", AdminUser, admin, OK},
		{"admin as others", AdminUser, good, WrongAction},
		{"others as admin", IAMUser, admin, WrongAction},
		{"of RDS", IAMUser, signing{}, WrongUser},
		{"with a user", IAMUser, with(func(s *signing) { s.noUser = false }), WrongUser},
		{"with a port", IAMUser, with(func(s *signing) { s.host += ":5432" }), WrongHost},
		{"another host", IAMUser, with(func(s *signing) { s.host = "other" + s.host }), WrongHost},
		{"another path", IAMUser, with(func(s *signing) { s.path = "/x" }), WrongPath},
		{"another action", IAMUser, with(func(s *signing) { s.action = "connect" }), WrongAction},
		{"another service", IAMUser, with(func(s *signing) { s.service = ServiceRDS }), WrongService},
		{"another region", IAMUser, with(func(s *signing) { s.region = "eu-west-2" }), WrongRegion},
		{"a week", IAMUser, with(func(s *signing) { s.expires, s.age = "604800", 6*24*time.Hour }), OK},
		{"more", IAMUser, with(func(s *signing) { s.expires = "604801" }), Malformed},
		{"too old", IAMUser, with(func(s *signing) { s.age = 15 * time.Minute }), Expired},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := login(t, c, test.user, mint(t, test.sign))
			if v := lastVerdict(t, c); v.Reason != test.want || v.OK != (err == nil) || v.OK != (test.want == OK) {
				t.Errorf("%v, verdict %+v, want %q", err, v, test.want)
			}
		})
	}

	// Aurora DSQL has one database, of this name.
	config := config(t, c, AdminUser, mint(t, admin))
	config.Database = "postgres"
	if _, err := open(t, config); err != nil {
		t.Error(err)
	}
}

func TestUnknownService(t *testing.T) {
	t.Parallel()
	c := &Cluster{Service: "rds"}
	err := c.Start(testContext(t))
	if errors.Is(err, ErrNotInstalled) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), "no such service: rds") {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
