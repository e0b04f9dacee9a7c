package portforward

import (
	"slices"
	"strings"
	"testing"
)

// Programs inherit neither the password nor the settings of iamproxy.
func TestInheritedEnvironment(t *testing.T) {
	t.Setenv("PGPASSWORD", "HUNTER2")
	t.Setenv("IAMPROXY_VIA", "HUNTER2")
	t.Setenv("PGPORT", "5433")
	env := Environment()
	if all := strings.Join(env, " "); strings.Contains(all, "HUNTER2") || !slices.Contains(env, "PGPORT=5433") {
		t.Errorf("got %s", all)
	}
}
