// Command iamproxy lets PostgreSQL clients that know no password log in to
// Amazon RDS and Aurora with IAM tokens.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// giveUp ends a process that something holds up where nothing may, as a log that nobody
// reads.
var giveUp = func() { os.Exit(1) }
