//go:build unix

package aurora

import "testing"

func TestIAMOffAndOn(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c := start(t, &Cluster{})
	token := mint(t, signing{})
	admin, err := c.Admin(ctx, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, "ALTER ROLE "+IAMUser+" PASSWORD 'secret'"); err != nil {
		t.Fatal(err)
	}
	const wrongPassword = "28P01" // of SCRAM: a token is rejected with 28000

	mustLogin(t, c, IAMUser, token)
	if err := c.SetIAM(ctx, false); err != nil {
		t.Fatal(err)
	}
	c.ResetVerdicts()
	if _, err := login(t, c, IAMUser, token); sqlState(err) != wrongPassword {
		t.Errorf("off, with a token: %v", err)
	}
	mustLogin(t, c, IAMUser, "secret")
	mustLogin(t, c, PlainUser, PlainPassword)
	if got := len(c.Verdicts()); got != 0 {
		t.Errorf("%d tokens were looked at", got)
	}
	if err := c.SetIAM(ctx, true); err != nil {
		t.Fatal(err)
	}
	mustLogin(t, c, IAMUser, token)
	if _, err := login(t, c, IAMUser, "secret"); sqlState(err) != "28000" {
		t.Errorf("on, with a password: %v", err)
	}
	if err := new(Cluster).SetIAM(ctx, true); err == nil {
		t.Error("before Start: no error")
	}
}

func testPolicy(t *testing.T, c *Cluster) {
	c.SetPolicy(func(accessKeyID, user string) bool { return accessKeyID == DefaultKey.AccessKeyID && user == OtherUser })
	defer c.SetPolicy(nil)
	if _, err := login(t, c, IAMUser, mint(t, signing{})); sqlState(err) != "28000" {
		t.Errorf("not allowed: %v", err)
	}
	if v := lastVerdict(t, c); v.OK || v.Reason != NotAllowed {
		t.Errorf("verdict %+v", v)
	}
	mustLogin(t, c, OtherUser, mint(t, signing{user: OtherUser}))
	if _, err := login(t, c, OtherUser, mint(t, signing{user: OtherUser, key: DefaultSessionKey})); err == nil {
		t.Error("another key")
	}
	c.ResetVerdicts()
	// Errors of the token come first.
	if _, err := login(t, c, IAMUser, mint(t, signing{host: "other:5432"})); err == nil {
		t.Error("another host")
	}
	if v := lastVerdict(t, c); v.Reason != WrongHost {
		t.Errorf("verdict %+v", v)
	}
	c.SetPolicy(nil)
	mustLogin(t, c, IAMUser, mint(t, signing{}))
}
