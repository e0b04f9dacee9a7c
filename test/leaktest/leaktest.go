// Package leaktest finds goroutines that tests leave.
package leaktest

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// eventLoop is the goroutine of netconn's event loop, which never ends.
const eventLoop = "github.com/iamproxy/iamproxy/proxy/netconn.(*loop).run"

// Main runs the tests of a package, with plain I/O if IAMPROXY_PLAIN_IO is 1, like the
// program. It fails if they leave goroutines. setPlainIO is netconn.SetPlainIO.
func Main(m *testing.M, setPlainIO func(on bool)) {
	setPlainIO(os.Getenv("IAMPROXY_PLAIN_IO") == "1")
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(eventLoop))
}
