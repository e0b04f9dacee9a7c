//go:build unix

package aurora

import "testing"

func TestStandby(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	primary := start(t, &Cluster{})
	standby := start(t, &Cluster{Primary: primary})
	token := mint(t, signing{})
	write := func(c *Cluster, sql string) string {
		t.Helper()
		conn := mustLogin(t, c, IAMUser, token)
		defer conn.Close(ctx)
		_, err := conn.Exec(ctx, sql)
		if err != nil && sqlState(err) == "" {
			t.Fatalf("%s: %v", sql, err)
		}
		return sqlState(err)
	}
	const readOnly = "25006"

	if code := write(primary, "CREATE TABLE kept AS SELECT 42 AS n"); code != "" {
		t.Errorf("the primary says %s", code)
	}
	reader := mustLogin(t, standby, IAMUser, token)
	eventually(t, "the primary's table", func() bool {
		var n int
		return reader.QueryRow(ctx, "SELECT n FROM kept").Scan(&n) == nil && n == 42
	})
	if code := write(standby, "DELETE FROM kept"); code != readOnly {
		t.Errorf("the standby says %q to a write", code)
	}

	// They exchange their roles.
	if err := primary.StartAsStandby(ctx); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if code := write(standby, "DELETE FROM kept"); code != "" {
		t.Errorf("a promoted standby says %s", code)
	}
	if code := write(primary, "DELETE FROM kept"); code != readOnly {
		t.Errorf("a primary that was made a standby says %q to a write", code)
	}
	if err := standby.Promote(ctx); err == nil {
		t.Error("promoted twice")
	}

	// A standby without a primary can be promoted as well, and stays promoted.
	if err := primary.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if err := primary.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if code := write(primary, "DELETE FROM kept"); code != "" {
		t.Errorf("promoted again, it says %s", code)
	}
}

func TestStandbyOfNobody(t *testing.T) {
	t.Parallel()
	c := Cluster{Primary: &Cluster{}}
	if err := c.Start(testContext(t)); err == nil {
		c.Close()
		t.Error("a standby of a primary that is not started")
	}
	if err := c.Promote(testContext(t)); err == nil {
		t.Error("promoted without a server")
	}
}
