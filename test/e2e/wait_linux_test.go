package e2e

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// A container without the address ::1, where --admin or --listen is [::]: wait and shutdown
// connect over IPv4. By default, iamproxy listens on 127.0.0.1 alone there.
func TestReport06WaitWithoutIPv6(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("this account makes no network namespaces: %s", out)
	}
	const script = `set -e
ip link set lo up
ip -6 address del ::1/128 dev lo 2>/dev/null || true
"$0" %[1]s --admin [::]:9090 & run=$!
"$0" wait --admin [::]:9090 --timeout %[2]s
"$0" wait --admin :9090 --timeout %[2]s
"$0" shutdown --admin [::]:9090
wait $run
"$0" %[1]s --admin off --listen [::]:6432 --allow-from 10.0.0.0/8 & run=$!
"$0" wait --admin off --listen [::]:6432 --timeout %[2]s
kill $run
wait $run
"$0" %[1]s --admin off & run=$!
"$0" wait --admin off --timeout %[2]s
kill $run
wait $run`
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", fmt.Sprintf(script, aurora.DefaultHost, limit), binaryPath(t))
	cmd.Env = keyEnvironment(aurora.DefaultKey)
	if out, err := combinedOutput(t, cmd); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
