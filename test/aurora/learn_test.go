//go:build unix

package aurora

import "testing"

func TestLearnToken(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{NoLDAP: true})
	good := mint(t, signing{key: DefaultSessionKey})
	if _, err := login(t, c, IAMUser, good); sqlState(err) != "28P01" {
		t.Errorf("before: %v", err)
	}
	learn := func(token string) error {
		return c.LearnToken(testContext(t), func() {
			if _, err := login(t, c, IAMUser, token); sqlState(err) != "3D000" {
				t.Errorf("while it learns: %v", err)
			}
		})
	}
	if err := learn(good); err != nil {
		t.Fatal(err)
	}
	if v := lastVerdict(t, c); !v.OK || v.Fingerprint != Fingerprint(good) {
		t.Errorf("verdict %+v", v)
	}
	mustLogin(t, c, IAMUser, good)
	if _, err := login(t, c, IAMUser, good+"0"); sqlState(err) != "28P01" {
		t.Errorf("another token: %v", err)
	}
	if _, err := login(t, c, OtherUser, good); sqlState(err) != "28P01" {
		t.Errorf("another user: %v", err)
	}

	if err := learn(mint(t, signing{user: OtherUser})); err == nil {
		t.Error("a bad token was learned")
	}
	if v := lastVerdict(t, c); v.Reason != WrongUser {
		t.Errorf("verdict %+v", v)
	}
	// A client may start with TLS directly.
	other := mint(t, signing{user: OtherUser})
	err := c.LearnToken(testContext(t), func() {
		config := config(t, c, OtherUser, other)
		config.SSLNegotiation, config.TLSConfig.NextProtos = "direct", []string{"postgresql"}
		if _, err := open(t, config); sqlState(err) != "3D000" {
			t.Errorf("direct TLS: %v", err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	mustLogin(t, c, OtherUser, other)
	if err := c.LearnToken(testContext(t), func() {}); err == nil {
		t.Error("no login, and no error")
	}
	// It is still stopped, and restarts with its data.
	if err := c.Restart(testContext(t)); err != nil {
		t.Fatal(err)
	}
	mustLogin(t, c, IAMUser, good)
}
